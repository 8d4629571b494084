r"""Unions of intervals in their shortest form: ``[1,2] \cup [2,3]`` is ``[1,3]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from prm.verifiers.math.values import INFINITE, Group, Scalar, Value

Bound = tuple[float | Fraction, int]
"""A gap on the line: just before a value (0) or just behind it (1)."""


def merged(parts: Sequence[Group]) -> list[tuple[Bound, Bound]] | None:
    """The union in its shortest form, or None where an end is no exact number."""
    intervals = []
    for part in parts:
        for begin, low, high, end in _pieces(part):
            start, stop = _exact(low), _exact(high)
            if start is None or stop is None:
                return None
            first = (start, 0 if begin == "[" and math.isfinite(start) else 1)
            last = (stop, 1 if end == "]" and math.isfinite(stop) else 0)
            if first < last:
                intervals.append((first, last))
    return _joined(sorted(intervals))


def _joined(intervals: list[tuple[Bound, Bound]]) -> list[tuple[Bound, Bound]]:
    joined: list[tuple[Bound, Bound]] = []
    for first, last in intervals:
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _pieces(part: Group) -> list[tuple[str, Value, Value, str]]:
    """The interval, or each element of a set as the point that it is."""
    if part.is_interval:
        return [(part.begin, part.items[0], part.items[1], part.end)]
    return [("[", item, item, "]") for item in part.items]


def _exact(value: Value) -> float | Fraction | None:
    if not isinstance(value, Scalar):
        return None
    if value.text in INFINITE:
        return -math.inf if value.text.startswith("-") else math.inf
    return value.value
