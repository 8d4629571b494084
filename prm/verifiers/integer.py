"""Compare an integer answer with an integer reference, digit for digit."""

from __future__ import annotations

import re

from prm.errors import RecordError
from prm.records import Verdict

BACKEND = "integer"
# Longer numbers are no answers to our problems, and int() of them is slow.
_INTEGER = re.compile(r"[+-]?\d{1,100}")


def check_integer(answer: str | None, reference: str) -> Verdict:
    """Right when both are the same integer, wrong when they are two integers.

    An answer that is absent or is no plain integer is could_not_tell: it was not compared.

    Raises:
        RecordError: the reference itself is no integer (the problem is broken, not the answer).
    """
    if not _INTEGER.fullmatch(reference.strip()):
        raise RecordError(f"reference answer {reference!r:.60} is not an integer")
    if answer is None or not answer.strip():
        return Verdict("could_not_tell", BACKEND, detail="no answer", reason="no_answer")
    if not _INTEGER.fullmatch(answer.strip()):
        detail = f"not an integer: {answer!r:.60}"
        return Verdict("could_not_tell", BACKEND, detail=detail, reason="unparsed")
    return Verdict("right" if int(answer) == int(reference) else "wrong", BACKEND)
