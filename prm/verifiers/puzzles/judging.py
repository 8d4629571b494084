r"""What the puzzles have in common: references in JSON, answers in model text, verdicts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

from prm.errors import RecordError
from prm.records import Status, Verdict, build
from prm.verifiers.expression import NoValue, Unreadable

MAX_ANSWER = 1000
"""Characters of an answer."""
MAX_REFERENCE = 20_000

# With these an answer is shown to have no value; the rest is only beyond what is computed here.
_FALSE_VALUES = ("division_by_zero", "not_whole", "not_real")
_WRAPPERS = (
    ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("__", "__"), ("_", "_"), ("*", "*"),
)  # fmt: skip
# Bold, and no power: nothing that could be an operand stands before or behind it.
_BOLD = re.compile(r"(?<![\w)\]}*])\*\*(?=[^\s*])([^*\n]+)(?<!\s)\*\*(?![\w(\[{\\*])")
_BOXED = re.compile(r"\\boxed\s*\{(.*)\}", re.DOTALL)
T = TypeVar("T")


def read_reference(reference: str, cls: type[T], backend: str) -> T:
    """The puzzle in a reference.

    Raises:
        RecordError: it is not the JSON object that it should be.
    """
    if len(reference) > MAX_REFERENCE:
        raise RecordError(f"{backend}: reference of {len(reference)} characters")
    try:
        row = json.loads(reference)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{backend}: reference is not JSON: {reference!r:.80}") from error
    task: T = build(cls, row, f"{backend} reference")
    return task


def judge(backend: str, answer: str | None, find_fault: Callable[[str], str | None]) -> Verdict:
    """A verdict; ``find_fault`` gives the reason why an answer is wrong, None where it is right.

    What it cannot read is could_not_tell.
    """
    answer = answer or ""
    text = unwrap(answer[: MAX_ANSWER + 1])
    if not text:
        return Verdict("could_not_tell", backend, detail="no answer", reason="no_answer")
    if len(answer) > MAX_ANSWER:
        detail = f"longer than {MAX_ANSWER} characters: {answer!r:.60}"
        return Verdict("could_not_tell", backend, detail=detail, reason="too_long")
    try:
        fault = find_fault(text)
    except Unreadable as error:
        return Verdict("could_not_tell", backend, detail=str(error), reason="unparsed")
    except NoValue as error:
        status: Status = "wrong" if error.reason in _FALSE_VALUES else "could_not_tell"
        return Verdict(status, backend, detail=f"{answer!r:.80}", reason=error.reason)
    if fault is None:
        return Verdict("right", backend)
    return Verdict("wrong", backend, detail=f"{answer!r:.80}", reason=fault)


def unwrap(answer: str) -> str:
    """The answer without Markdown, and without dollars, a box and a full stop around it."""
    text = _BOLD.sub(r"\1", answer.replace("`", "")).strip()
    while True:
        before = text
        text = text.removesuffix(".").strip()
        for begin, end in _WRAPPERS:
            if len(text) > len(begin) + len(end) and text.startswith(begin) and text.endswith(end):
                text = text[len(begin) : -len(end)].strip()
        if match := _BOXED.fullmatch(text):
            text = match[1].strip()
        if text == before:
            return text


def fraction(value: Any, where: str) -> Fraction:
    """An exact number of a reference: an integer, or a string such as "-2/3".

    Raises:
        RecordError: it is neither, or has more than 100 digits.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**100:
        return Fraction(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,100}(/0*[1-9][0-9]{0,99})?", value):
        return Fraction(value)
    raise RecordError(
        f"{where} should be an integer or a string such as '-2/3', found {value!r:.60}"
    )
