"""Verifiers: is a final answer right, wrong, or can it not be told? By the problem's name."""

from prm.verifiers.extract import extract_answer, extract_boxed
from prm.verifiers.integer import check_integer
from prm.verifiers.math_answer import check_math_answer
from prm.verifiers.registry import get_verifier

__all__ = [
    "check_integer",
    "check_math_answer",
    "extract_answer",
    "extract_boxed",
    "get_verifier",
]
