r"""Check the equations that a step states, exactly and without running any of it.

    check_equations("so 3*(4+5) = 27, and 27 + 1 = 29")
        [Equation(begin=3, end=15, text="3*(4+5) = 27", result="true"), ... "false"]

Each sign of a chain a = b = c is an equation of its own. What has variables, other units on the
two sides, or a value that was rounded without saying so is "unreadable": it says nothing about
the step. A step with a false equation is wrong; one with true equations may still be wrong.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from prm.records import Evidence
from prm.verifiers.equations import Side, left_side, right_side
from prm.verifiers.expression import NoValue, Unreadable, parse_expression
from prm.verifiers.step_tokens import Token, tokenise, without_notes

MAX_TEXT = 20_000
"""Characters of a step; what lies behind is not read."""
CHECKER = "equations/1"
"""Recorded as the completer of the evidence."""

_SCALES = {Fraction(10) ** power for power in (2, 3, 6, 9, -2, -3, -6, -9)}
"""Cents and dollars, metres and kilometres, thousands: of two sides that differ by such a factor
nobody can tell."""

Result = Literal["true", "false", "unreadable"]

_ROUNDING = re.compile(
    r"(?i)round|approx|about|roughly|nearest|almost|estimat|whole|around|decimal|\u2248|floor|ceil"
    r"|integer|at (?:least|most)|remain|left over|full"
)
# Said to be false, or asked; in the same sentence.
_DENIED = re.compile(
    r"(?i)(?:\b(?:not|cannot|never|whether|suppose|assume)\b|n't\b)(?![^\n]*\.\s)[^\n]*$"
)
# Another arithmetic than that of numbers.
_OTHER_ARITHMETIC = re.compile(
    r"(?i)\\[pb]?mod\b|\bmod(?:ulo)?\b|\u2261|\\equiv|\bbase[- ]|_\{?[0-9]|\bbinary\b|\bclock\b"
    r"|\\lfloor|\\lceil|\u230a|\u2308"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Equation:
    """``text`` is the step's text from ``begin`` to ``end``; ``reason`` says why it is not true."""

    begin: int
    end: int
    text: str
    result: Result
    reason: str = ""


def check_equations(step: str) -> list[Equation]:
    """Every equation in the step, in order; GSM8K's ``<<a=b>>`` notes are equations too."""
    step = step[:MAX_TEXT]
    text, notes = without_notes(step)
    is_other = _OTHER_ARITHMETIC.search(step) is not None
    is_rounded = _ROUNDING.search(step) is not None
    found = _check(text, 0, is_rounded)
    for begin, end in notes:
        found += _check(step[begin:end], begin, is_rounded)
    if is_other:
        found = [_unless_true(one, "other_arithmetic") for one in found]
    return [
        dataclasses.replace(one, text=step[one.begin : one.end])
        for one in sorted(found, key=lambda one: (one.begin, one.end))
    ]


def equation_evidence(step: str) -> Evidence | None:
    """The step's true equations of those that could be checked; None when there are none."""
    results = [equation.result for equation in check_equations(step)]
    trials = len(results) - results.count("unreadable")
    return Evidence("equations", results.count("true"), trials, CHECKER) if trials else None


def _check(text: str, offset: int, is_rounded: bool) -> list[Equation]:
    tokens, found = tokenise(text), []
    for i, token in enumerate(tokens):
        if token.kind != "relation":
            continue
        left, right = left_side(tokens, i), right_side(tokens, i)
        begin = (left.tokens[0] if left else token).begin
        end = (right.tokens[-1] if right else token).end
        result, reason = _compare(left, right, token.value, is_rounded)
        one = Equation(begin + offset, end + offset, "", result, reason)
        is_denied = _DENIED.search(text, max(0, begin - 60), begin) is not None
        found.append(_unless_true(one, "denied") if is_denied else one)
    return found


def _unless_true(equation: Equation, reason: str) -> Equation:
    if equation.result == "false":
        return dataclasses.replace(equation, result="unreadable", reason=reason)
    return equation


def _compare(
    left: Side | None, right: Side | None, relation: str, is_rounded: bool
) -> tuple[Result, str]:
    if left is None or right is None:
        return "unreadable", "no_arithmetic"
    if left.is_number and right.is_number:
        # 3 feet = 36 inches, and names of numbers: nothing is calculated.
        return "unreadable", "no_operation"
    if left.units and (left.is_number or len(left.units | right.units) > 1):
        return "unreadable", "units"
    try:
        pairs = [(_value(a), _value(b)) for a in _readings(left) for b in _readings(right)]
        pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not pairs:
            return "unreadable", "no_arithmetic"
        if any(a == b for a, b in pairs):
            return "true", ""
        return _unequal(left, right, relation, is_rounded)
    except NoValue as error:
        return "unreadable", error.reason


def _unequal(left: Side, right: Side, relation: str, is_rounded: bool) -> tuple[Result, str]:
    """What two sides are that are not exactly equal."""
    is_about = relation == "~" or left.is_cut_decimal or right.is_cut_decimal
    is_inexact = right.is_number and _is_inexact(left, right)
    for a, b in itertools.product(_readings(left), _readings(right)):
        x, y = _value(a), _value(b)
        if x is None or y is None:
            continue
        place = _last_place(a, b)
        if is_about and abs(x - y) <= place:
            return "true", ""
        allowed = _slack(a, is_rounded) + _slack(b, is_rounded)
        allowed = max(allowed, abs(x) * is_about / 50, place * is_inexact / 2)
        if abs(x - y) <= allowed:
            return "unreadable", "rounding"
        if y and abs(x / y) in _SCALES:
            return "unreadable", "scale"
    if any(_value(one) == _first_number(right) for one in _readings(left)):
        return "unreadable", "running_total"
    if _is_ambiguous(left) or _is_ambiguous(right):
        return "unreadable", "ambiguous"
    return "false", "unequal"


def _readings(side: Side) -> list[list[Token]]:
    """The tokens in each way that they may be meant."""
    tokens = list(side.tokens)
    readings = [tokens]
    if side.begins_with_dash:
        readings.append(tokens[1:])
    if (cut := _before_of(tokens)) is not None:
        readings.append(cut)
    if any(token.kind == "percent" for token in tokens):
        readings += [[t for t in one if t.kind != "percent"] for one in readings]
    return readings


def _before_of(tokens: list[Token]) -> list[Token] | None:
    """What stands before the last "of": 2/3 = 1 - 1/3 of the cake."""
    places = [i for i, t in enumerate(tokens) if t.kind == "operator" and t.end - t.begin == 2]
    return tokens[: places[-1]] if places and tokens[places[-1]].value == "*" else None


def _is_ambiguous(side: Side) -> bool:
    """Whether it can be read in two ways: ``60 / 3/4``, ``24 (12 + 3)``."""
    divisions = [i for i, token in enumerate(side.tokens) if token.value == "/"]
    return any(
        a.kind in ("number", "close") and b.value == "(" and b.begin > a.end
        for a, b in itertools.pairwise(side.tokens)
    ) or any(j - i == 2 for i, j in itertools.pairwise(divisions))


def _value(tokens: Sequence[Token]) -> Fraction | None:
    """The exact value; None where it is no expression."""
    words: list[str] = []
    for token in tokens:
        if token.kind == "percent":
            if not words or not words[-1][0].isdigit():
                return None
            words[-1] = f"({words[-1]}/100)"
        elif (
            token.kind == "number"
            and len(token.value) > 1
            and token.value.isdigit()
            and (token.value[0] == "0")
        ):
            return None  # 0730 is a time, or a code
        else:
            words.append(token.value)
    try:
        return parse_expression(" ".join(words), juxtaposed=True).value()
    except Unreadable:
        return None


def _last_place(left: Sequence[Token], right: Sequence[Token]) -> Fraction:
    """One unit in the last place of the coarser number, of two sides that are about equal."""
    alone = [number for side in (left, right) if (number := _only_number(side))]
    return max((_place(number) for number in alone), default=Fraction(0))


def _only_number(tokens: Sequence[Token]) -> Token | None:
    """The number of a side that is nothing else, but for a sign or a percent sign."""
    numbers = [token for token in tokens if token.kind == "number"]
    others = [t for t in tokens if t.kind not in ("number", "percent") and t is not tokens[0]]
    return numbers[0] if len(numbers) == 1 and not others else None


def _place(token: Token) -> Fraction:
    """One unit in the last place: of 0.25 one hundredth, of 300 one hundred."""
    whole, _, decimals = token.value.partition(".")
    if decimals:
        return Fraction(1, 10 ** len(decimals))
    return Fraction(10 ** (len(whole) - len(whole.rstrip("0"))) if whole.strip("0") else 1)


def _is_inexact(left: Side, right: Side) -> bool:
    """Whether a result without decimals may be rounded: of decimals, or in percent."""
    decimals = any("." in token.value for token in left.tokens if token.kind == "number")
    return decimals or right.tokens[-1].kind == "percent"


def _slack(tokens: Sequence[Token], is_rounded: bool) -> Fraction:
    """How far the value may be off because its decimals were rounded: the sum of their effects.

    A number with one decimal, or with none, counts as rounded only where the step says so.
    """
    value, total = _value(tokens), Fraction(0)
    for i, token in enumerate(tokens):
        digits = len(token.value.partition(".")[2])
        is_alone = len(tokens) == 1
        if token.kind != "number" or not (digits >= 2 or (is_rounded and (digits or is_alone))):
            continue
        moved = list(tokens)
        shift = _place(token) if is_alone else _place(token) / 2
        shifted = Fraction(token.value) + shift
        moved[i] = dataclasses.replace(token, value=f"({shifted})")
        other = _value(moved)
        if value is not None and other is not None:
            total += abs(other - value)
    return total


def _first_number(right: Side) -> Fraction | None:
    """The 7 of a running total: 3 + 4 = 7 + 2 = 9."""
    kinds = [token.kind for token in right.tokens[:2]]
    goes_on = kinds == ["number", "operator"] and len(right.tokens) > 2
    return Fraction(right.tokens[0].value) if goes_on else None
