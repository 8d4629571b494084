r"""Compare two short mathematical answers, by rules that can be read here.

Right: both are the same plain number, or both are the same LaTeX once its spelling is evened out.
Wrong: both are plain numbers, and they differ. All else is could_not_tell: ``10`` and ``10 cm``,
``x=5`` and ``5``, ``(1,2)`` and ``(1,3)`` are not compared.

A plain number is a whole number, also with thousands separators (``1,000``, ``1{,}000``), a
decimal, or a fraction of two of these (``a/b``, ``\frac{a}{b}``); it may have

- a dollar sign, which says nothing about the number: ``\$5`` is 5;
- a percent sign: ``5\%`` against a number without one is right as 5 and as 1/20, because
  references to "what percent" are written both ways; it is wrong when it is neither.

Numbers are exact fractions. ``0.33`` is not 1/3, and the form that was asked for is not checked:
``0.5`` is ``1/2``.
"""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from typing import Literal

from prm.errors import RecordError
from prm.records import Verdict

BACKEND = "math_answer"
MAX_LENGTH = 400
"""Characters; nothing longer is an answer that these rules could compare."""

_DOLLAR = r"\dollar"
# With a leading zero, 0,001 may be a decimal. Longer numbers are no answers, and slow to convert.
_WHOLE = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]{1,100})"
_DECIMAL = rf"[+-]?(?:{_WHOLE}(?:\.[0-9]{{0,100}})?|\.[0-9]{{1,100}})(?:[eE][+-]?[0-9]{{1,2}})?"
_PLAIN = re.compile(_DECIMAL)
_SLASH = re.compile(rf"({_DECIMAL}) ?/ ?({_DECIMAL})")
_FRAC = re.compile(rf"([+-]?) ?\\frac\{{ ?({_DECIMAL}) ?\}} ?\{{ ?({_DECIMAL}) ?\}}")
_SIGNED = re.compile(r"([+-]?) ?(.*)", re.DOTALL)

# A line break of a matrix comes first: its second backslash is no part of what follows.
_SPACE = re.compile(r"(?P<row>\\\\)|\\[,;: ]|~|\\q?quad(?![A-Za-z])|\s")
_WORDS = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
_REWRITES = (
    (re.compile(r"\\(?:left|right)(?![A-Za-z])\.?"), ""),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*([A-Za-z0-9])"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*([A-Za-z0-9])"), r"\1{\2}"),
    (re.compile(r"([\^_])\{\s*(\\[A-Za-z]+|[A-Za-z0-9])\s*\}"), r"\1\2"),
)

Unit = Literal["", "$", "%"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Number:
    value: Fraction
    unit: Unit


def check_math_answer(answer: str | None, reference: str) -> Verdict:
    """Right, wrong or could-not-tell, by the rules of this module.

    Raises:
        RecordError: the reference is empty (the problem is broken, not the answer).
    """
    if not reference.strip():
        raise RecordError("reference answer is empty")
    if answer is None or not answer.strip():
        return _unknown("no answer")
    if max(len(answer), len(reference)) > MAX_LENGTH:
        return _unknown(f"longer than {MAX_LENGTH} characters: {answer!r:.60}")
    left, right = _even_out(answer), _even_out(reference)
    number, expected = _number(left), _number(right)
    if number and expected:
        return _compare(number, expected)
    # A number and a list may be spelt alike: 1,234 and 1, 234.
    if not (number or expected) and _without_spaces(left) == _without_spaces(right) != "":
        return Verdict("right", BACKEND)
    return _unknown(f"not two plain numbers, nor the same text: {answer!r:.60}")


def _unknown(detail: str) -> Verdict:
    return Verdict("could_not_tell", BACKEND, detail=detail)


def _compare(left: _Number, right: _Number) -> Verdict:
    units = {left.unit, right.unit}
    if units == {"$", "%"}:
        return _unknown("dollars and percent")
    is_same = left.value == right.value
    if units == {"", "%"}:
        percent, bare = (left, right) if left.unit == "%" else (right, left)
        is_same = is_same or percent.value / 100 == bare.value
    return Verdict("right" if is_same else "wrong", BACKEND)


def _even_out(text: str) -> str:
    """The same text in one spelling; spaces are kept, one each."""
    text = text.strip().removesuffix(".").replace("\u2212", "-").replace(r"\$", _DOLLAR)
    for begin, end in ((r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(begin) and text.endswith(end):
            text = text[len(begin) : -len(end)]
    # A pair of dollars encloses mathematics, a single one is money.
    text = text.replace("$", "" if text.count("$") % 2 == 0 else _DOLLAR).replace(r"\%", "%")
    text = _WORDS.sub(r"\1", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SPACE.sub(lambda match: match["row"] or " ", text)
    return " ".join(text.split()).removesuffix(".")


def _without_spaces(text: str) -> str:
    """Only the spaces between two letters or digits are left: ``1 2`` is not ``12``."""
    return re.sub(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])", "", text)


def _number(text: str) -> _Number | None:
    unit: Unit = ""
    if text.endswith("%"):
        text, unit = text[:-1].rstrip(), "%"
    sign, rest = _sign(text)
    if rest.startswith(_DOLLAR) and not unit:
        # The sign stands before the dollar or behind it; two signs are no number.
        rest, unit = rest[len(_DOLLAR) :].lstrip(), "$"
    value = _value(sign + rest)
    return None if value is None else _Number(value, unit)


def _sign(text: str) -> tuple[str, str]:
    match = _SIGNED.fullmatch(text)
    assert match is not None
    return match[1], match[2]


def _value(text: str) -> Fraction | None:
    if _PLAIN.fullmatch(text):
        return _decimal(text)
    if match := _SLASH.fullmatch(text):
        return _quotient(match[1], match[2])
    if match := _FRAC.fullmatch(text):
        value = _quotient(match[2], match[3])
        return -value if value is not None and match[1] == "-" else value
    return None


def _quotient(above: str, below: str) -> Fraction | None:
    divisor = _decimal(below)
    return _decimal(above) / divisor if divisor else None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))
