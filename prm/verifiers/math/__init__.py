"""Compare mathematical answers: `check_math`, by the settings of a `MathRule`."""

from prm.verifiers.math.pool import MathPool, shared_pool
from prm.verifiers.math.rule import MathRule
from prm.verifiers.math.verifier import (
    MathVerifier,
    check_math,
    check_math_async,
    check_math_many,
)

__all__ = [
    "MathPool",
    "MathRule",
    "MathVerifier",
    "check_math",
    "check_math_async",
    "check_math_many",
    "shared_pool",
]
