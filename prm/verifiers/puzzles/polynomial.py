"""Exact polynomials: coefficients as fractions, the highest power first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from prm.verifiers.puzzles.surds import Surd

Polynomial = list[Fraction]


def trimmed(coefficients: Sequence[Fraction]) -> Polynomial:
    """Without leading zeros; empty for the zero polynomial."""
    first = next((i for i, value in enumerate(coefficients) if value), len(coefficients))
    return list(coefficients[first:])


def product(one: Polynomial, other: Polynomial) -> Polynomial:
    """Of two polynomials that are not zero."""
    result = [Fraction(0)] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            result[i + j] += a * b
    return result


def derivative(polynomial: Polynomial) -> Polynomial:
    """By the variable."""
    degree = len(polynomial) - 1
    return [value * (degree - i) for i, value in enumerate(polynomial[:-1])]


def value_at(polynomial: Polynomial, x: Surd) -> Surd:
    """By Horner's rule."""
    result = Surd(Fraction(0))
    for coefficient in polynomial:
        result = result * x + Surd(coefficient)
    return result


def multiplicity(polynomial: Polynomial, x: Surd) -> int:
    """How often x is a root; 0 = it is none."""
    count = 0
    while polynomial and value_at(polynomial, x) == Surd(Fraction(0)):
        polynomial = derivative(polynomial)
        count += 1
    return count


def divided(one: Polynomial, other: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Quotient and remainder; ``other`` is not zero."""
    rest, quotient = list(one), []
    while len(rest) >= len(other):
        factor = rest[0] / other[0]
        quotient.append(factor)
        padded = [*other, *[Fraction(0)] * (len(rest) - len(other))]
        rest = [a - factor * b for a, b in zip(rest, padded, strict=True)][1:]
    return quotient, trimmed(rest)


def count_real_roots(polynomial: Polynomial) -> int:
    """How many different real roots there are, by Sturm's theorem."""
    chain = [polynomial, derivative(polynomial)]
    while chain[-1]:
        chain.append([-value for value in divided(chain[-2], chain[-1])[1]])
    at_plus = [one[0] for one in chain if one]
    at_minus = [one[0] * (-1) ** (len(one) - 1) for one in chain if one]
    return _changes(at_minus) - _changes(at_plus)


def _changes(values: list[Fraction]) -> int:
    return sum((a < 0) != (b < 0) for a, b in pairwise(values))


def whole(polynomial: Polynomial) -> list[int]:
    """The coefficients of a multiple that has whole ones."""
    scale = math.lcm(*(value.denominator for value in polynomial))
    return [int(value * scale) for value in polynomial]


def rational_roots(polynomial: Polynomial) -> set[Fraction]:
    """All different ones, by the rational root theorem."""
    coefficients, found = whole(polynomial), set()
    while coefficients and not coefficients[-1]:
        found.add(Fraction(0))
        coefficients.pop()
    if len(coefficients) < 2:
        return found
    candidates = {
        Fraction(sign * above, below)
        for above in _divisors(abs(coefficients[-1]))
        for below in _divisors(abs(coefficients[0]))
        for sign in (1, -1)
    }
    return found | {one for one in candidates if _is_root(coefficients, one)}


def _is_root(coefficients: list[int], x: Fraction) -> bool:
    """Horner's rule in whole numbers: the numerator of the value."""
    result, power = 0, 1
    for coefficient in coefficients:
        result = result * x.numerator + coefficient * power
        power *= x.denominator
    return result == 0


def _divisors(number: int) -> Iterator[int]:
    for small in range(1, math.isqrt(number) + 1):
        if number % small == 0:
            yield small
            yield number // small
