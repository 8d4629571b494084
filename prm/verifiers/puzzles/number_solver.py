"""Find every way to make a number from others with + - * /."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction

Values = dict[Fraction, set[str]]
"""What a set of numbers makes, and how."""


@functools.lru_cache(maxsize=4096)
def solve(numbers: tuple[int, ...], target: int, allow_fractions: bool = True) -> frozenset[str]:
    """All ways to make the target of all numbers, up to the order of sums and products."""
    wanted = Fraction(target)
    full = (1 << len(numbers)) - 1
    table: dict[int, Values] = {}
    # A set of numbers is a bit mask; its parts are smaller numbers than itself.
    for mask in range(1, full + 1):
        if mask & (mask - 1) == 0:
            number = numbers[mask.bit_length() - 1]
            table[mask] = {Fraction(number): {str(number)}}
            continue
        found: Values = defaultdict(set)
        for part in _halves(mask):
            only = wanted if mask == full else None
            _join(table[part], table[mask ^ part], found, only, allow_fractions)
        table[mask] = found
    texts = table[full].get(wanted, set())
    return frozenset(text.removeprefix("(").removesuffix(")") for text in texts)


def _halves(mask: int) -> Iterator[int]:
    """Each way to divide a set of numbers into two, once."""
    part = (mask - 1) & mask
    while part > mask ^ part:
        yield part
        part = (part - 1) & mask


def _join(
    left: Values, right: Values, found: Values, only: Fraction | None, allow_fractions: bool
) -> None:
    """Add every result of one operation on two parts; ``only``: no other value is kept."""
    for (a, texts), (b, others) in itertools.product(left.items(), right.items()):
        for value, form in results(a, b):
            if (only is None or value == only) and (allow_fractions or value.denominator == 1):
                pairs = itertools.product(texts, others)
                found[value].update(written(form, one, other) for one, other in pairs)


def results(a: Fraction, b: Fraction) -> Iterator[tuple[Fraction, str]]:
    """Each operation: its value, its sign, and R where the second part comes first."""
    yield a + b, "+"
    yield a * b, "*"
    yield a - b, "-"
    yield b - a, "-R"
    if b:
        yield a / b, "/"
    if a:
        yield b / a, "/R"


def written(form: str, one: str, other: str) -> str:
    """The operation in parentheses; sums and products with their parts in one order."""
    if form.endswith("R") or (form in "+*" and other < one):
        one, other = other, one
    return f"({one} {form[0]} {other})"
