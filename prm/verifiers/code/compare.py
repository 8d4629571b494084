"""Is a value that a program returned, or a text that it printed, the expected one?

Values are compared in the form in which they travelled (`prm.verifiers.sandbox.values`): plain data
from the JSON parser, in which no method of the program can hide. Nothing is hashed or unpickled.

- True is not 1; numbers are equal by value (2 and 2.0); NaN equals nothing, unless it is said so.
- A tuple is not a list, unless it is said so. Sets and dicts have no order.
- Texts are equal line by line, without the blanks at the ends of lines and without blank lines at
  the end of the text. The number of lines counts: a right beginning is not a right answer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from prm.verifiers.sandbox.values import MAX_DEPTH, TAG, encode


@dataclasses.dataclass(frozen=True, slots=True)
class Compare:
    """When two values, or two texts, count as equal."""

    rel_tol: float = 0.0
    """Relative tolerance where one of two numbers is a float; 0 = exact."""
    abs_tol: float = 0.0
    """Absolute tolerance, likewise."""
    unordered: bool = False
    """The outermost sequence, or the lines of a text, may come in any order. Both are sorted, then
    compared item by item."""
    tuple_is_list: bool = False
    """A tuple with the same items equals a list."""
    nan_equal: bool = False
    """NaN equals NaN."""
    ignore_case: bool = False
    """Texts that were printed (not returned strings) are compared without case."""


EXACT = Compare()
# A pair of a dict is a level of its own here.
_MAX_LEVELS = 2 * MAX_DEPTH + 1


def compare(value: object, expected: object, rule: Compare = EXACT) -> bool:
    """Are these two Python values equal by the rule?

    Raises:
        ValueError: one of them is nested too deep.
    """
    return compare_encoded(encode(value), encode(expected), rule)


def compare_encoded(value: Any, expected: Any, rule: Compare = EXACT) -> bool:
    """Likewise, for values in the form in which they travel.

    Raises:
        ValueError: one of them is nested too deep, or is no such form.
    """
    return _same(_read(value, rule), _read(expected, rule), rule)


def compare_text(text: str, expected: str, rule: Compare = EXACT) -> bool:
    """Are these two printed texts equal by the rule?"""
    left, right = _lines(text, rule), _lines(expected, rule)
    if rule.unordered:
        left, right = sorted(left), sorted(right)
    return len(left) == len(right) and all(
        a == b or (_is_tolerant(rule) and _same_words(a, b, rule))
        for a, b in zip(left, right, strict=True)
    )


class _Value(NamedTuple):
    """A value read once: what it is, and what it holds. ``key`` orders any two values."""

    kind: str
    content: Any
    key: tuple[Any, ...]


def _read(value: Any, rule: Compare, depth: int = 0) -> _Value:
    if depth > _MAX_LEVELS:
        raise ValueError("nested too deep")
    if isinstance(value, dict) and TAG in value:
        return _read_tagged(value[TAG], value.get("value"), rule, depth)
    if isinstance(value, dict):
        pairs = [[key, item] for key, item in value.items()]
        return _container("dict", pairs, rule, depth)
    if isinstance(value, list):
        return _container("list", value, rule, depth)
    if value is None or isinstance(value, bool | str):
        kind = type(value).__name__
        return _Value(kind, value, (0, kind, "" if value is None else value))
    return _number(value)


def _read_tagged(kind: Any, value: Any, rule: Compare, depth: int) -> _Value:
    if kind in ("tuple", "set", "frozenset", "dict", "complex") and isinstance(value, list):
        _check_items(kind, value)
        alike = {"frozenset": "set"} | ({"tuple": "list"} if rule.tuple_is_list else {})
        return _container(alike.get(kind, kind), value, rule, depth)
    if kind == "int" and isinstance(value, str):
        return _number(int(value, 16))
    if kind == "float" and isinstance(value, str):
        return _number(float(value))
    # Only what `encode` writes: a forged kind could pass for a number, or be compared with one.
    if kind in ("bytes", "other") and isinstance(value, str):
        return _Value(kind, value, (0, kind, value))
    raise ValueError(f"no value of type {kind!r:.40}: {value!r:.40}")


def _check_items(kind: str, items: Sequence[Any]) -> None:
    """A dict holds pairs, a complex number is one.

    Raises:
        ValueError: these are none.
    """
    pairs = items if kind == "dict" else [items] if kind == "complex" else []
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"no value of type {kind!r}: its items are no pairs")


def _container(kind: str, items: Sequence[Any], rule: Compare, depth: int) -> _Value:
    values = [_read(item, rule, depth + 1) for item in items]
    is_sequence = kind in ("list", "tuple")
    if kind in ("set", "dict") or (is_sequence and rule.unordered and depth == 0):
        values.sort(key=_key)
    return _Value(kind, values, (3, kind, *map(_key, values)))


def _key(value: _Value) -> tuple[Any, ...]:
    return value.key


def _number(value: Any) -> _Value:
    if not isinstance(value, int | float):
        raise ValueError(f"no value: {value!r:.40}")
    if value != value:
        return _Value("nan", value, (2, "nan"))
    return _Value("number", value, (1, "number", value))


def _same(left: _Value, right: _Value, rule: Compare) -> bool:
    if left.kind != right.kind or left.kind == "other":
        return False
    if left.kind == "nan":
        return rule.nan_equal
    if left.kind == "number":
        return _same_number(left.content, right.content, rule)
    if isinstance(left.content, list):
        return len(left.content) == len(right.content) and all(
            _same(a, b, rule) for a, b in zip(left.content, right.content, strict=True)
        )
    return bool(left.content == right.content)


def _same_number(left: float, right: float, rule: Compare) -> bool:
    if left == right:
        return True
    if not _is_tolerant(rule) or (isinstance(left, int) and isinstance(right, int)):
        return False
    try:
        return math.isclose(left, right, rel_tol=rule.rel_tol, abs_tol=rule.abs_tol)
    except OverflowError:  # an int that no float can hold is close to none
        return False


def _is_tolerant(rule: Compare) -> bool:
    return rule.rel_tol > 0 or rule.abs_tol > 0


def _lines(text: str, rule: Compare) -> list[str]:
    text = text.casefold() if rule.ignore_case else text
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_words(left: str, right: str, rule: Compare) -> bool:
    """Equal word by word, where two words may be numbers that are close; one of them a float."""
    pairs = left.split(), right.split()
    return len(pairs[0]) == len(pairs[1]) and all(
        a == b or _close_words(a, b, rule) for a, b in zip(*pairs, strict=True)
    )


def _close_words(left: str, right: str, rule: Compare) -> bool:
    if left.lstrip("+-").isdecimal() and right.lstrip("+-").isdecimal():
        return False
    try:
        a, b = float(left), float(right)
    except ValueError:
        return False
    return math.isclose(a, b, rel_tol=rule.rel_tol, abs_tol=rule.abs_tol)
