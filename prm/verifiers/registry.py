"""Verifiers by the name that a problem gives."""

from __future__ import annotations

from prm.errors import ConfigError
from prm.protocols import Verifier
from prm.verifiers.integer import check_integer
from prm.verifiers.math_answer import check_math_answer

_VERIFIERS: dict[str, Verifier] = {"integer": check_integer, "math_answer": check_math_answer}


def get_verifier(name: str) -> Verifier:
    """The verifier of that name.

    Raises:
        ConfigError: there is none; the message lists those that exist.
    """
    try:
        return _VERIFIERS[name]
    except KeyError:
        raise ConfigError(f"verifier {name!r} is unknown; there are {sorted(_VERIFIERS)}") from None
