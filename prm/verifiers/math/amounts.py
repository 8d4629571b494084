"""Compare two numbers or expressions by a rule: their amounts, units, percent signs and bases."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from typing import Protocol

from prm.verifiers.math.finding import (
    DIFFERENT,
    SAME,
    SYMBOLIC,
    Finding,
    any_same,
    at_most_unsure,
    unsure,
)
from prm.verifiers.math.rule import MathRule
from prm.verifiers.math.units import Unit, factors
from prm.verifiers.math.values import INFINITE, Scalar

_SHORTENED = re.compile(r"[+-]?[0-9][0-9,.]* ?[kKmMbB]")


class Algebra(Protocol):
    """Compares two expressions that exact arithmetic cannot read."""

    def __call__(self, reference: str, answer: str) -> Finding:
        """Equal, different or unsure."""
        ...


def no_algebra(reference: str, answer: str) -> Finding:
    """Only the same text is the same; for all else algebra is needed."""
    return SAME if reference == answer else SYMBOLIC


@dataclasses.dataclass(frozen=True, slots=True)
class ScalarComparison:
    """How scalars are compared: by ``rule``, with ``algebra`` for what arithmetic leaves open."""

    rule: MathRule
    algebra: Algebra

    def scalars(self, reference: Scalar, answer: Scalar) -> Finding:
        """Compare two numbers or expressions, with their units."""
        if reference.is_percent or answer.is_percent:
            return self._percents(reference, answer)
        if reference.digits or answer.digits:
            return self._based(reference, answer)
        if self.rule.units == "ignore" or not (reference.has_unit or answer.has_unit):
            return self._amounts(reference, answer)
        if reference.unit and answer.unit:
            return self._with_units(reference, answer)
        if self.rule.units == "must_match" and reference.unit != answer.unit:
            return DIFFERENT
        return self._one_unit(reference, answer)

    def _with_units(self, reference: Scalar, answer: Scalar) -> Finding:
        unit, other = reference.unit, answer.unit
        assert unit is not None
        assert other is not None
        if unit == other:
            return self._amounts(reference, answer)
        if unit.dimension == other.dimension:
            return self._amounts(_scaled(reference, unit.factor), _scaled(answer, other.factor))
        if unit.is_known and other.is_known:
            return DIFFERENT
        # "12 students" and "12 people" may be the same.
        return at_most_unsure(self._amounts(reference, answer), "units")

    def _one_unit(self, reference: Scalar, answer: Scalar) -> Finding:
        """Only one side names its unit: different amounts may still be the same in another."""
        found = self._amounts(reference, answer)
        unit = reference.unit or answer.unit
        if found.equal is False and unit is not None:
            scaled = (
                _scaled(reference, unit.factor if reference.unit else Fraction(1)),
                _scaled(answer, unit.factor if answer.unit else Fraction(1)),
            )
            if unit.dimension == "count":
                return self._amounts(*scaled)
            is_angle = unit.dimension == "angle" and r"\pi" in reference.text + answer.text
            is_other_unit = _is_in_another_unit(reference, answer, unit)
            if is_angle or is_other_unit or self._amounts(*scaled).equal:
                return unsure("units")
        is_count = unit is not None and unit.dimension == "count"
        # 7 for "how many dozen"? Perhaps.
        return at_most_unsure(found, "units") if is_count else found

    def _percents(self, reference: Scalar, answer: Scalar) -> Finding:
        if reference.is_percent and answer.is_percent:
            return self._amounts(reference, answer)
        if reference.unit or answer.unit:
            return unsure("units")
        hundredth = Fraction(1, 100)
        as_parts = self._amounts(
            _scaled(reference, hundredth if reference.is_percent else Fraction(1)),
            _scaled(answer, hundredth if answer.is_percent else Fraction(1)),
        )
        if self.rule.percent == "strict":
            return as_parts
        return any_same([self._amounts(reference, answer), as_parts])

    def _based(self, reference: Scalar, answer: Scalar) -> Finding:
        """The value counts; digits without their base may mean either."""
        found = self._amounts(reference, answer)
        digits = [one.digits or one.text for one in (reference, answer)]
        is_one_based = not (reference.digits and answer.digits)
        if found.equal is False and is_one_based and digits[0] == digits[1]:
            return SAME if reference.digits else unsure("base")
        return found

    def _amounts(self, reference: Scalar, answer: Scalar) -> Finding:
        ends = [one.text if one.text in INFINITE else one.value for one in (reference, answer)]
        if None not in ends and any(isinstance(end, str) for end in ends):
            return Finding(ends[0] == ends[1])
        if reference.value is None or answer.value is None:
            if _is_shortened(reference, answer) or _is_shortened(answer, reference):
                return unsure("notation")
            return self.algebra(reference.text, answer.text)
        error = abs(reference.value - answer.value)
        return Finding(error <= Fraction(self.rule.tolerance) * abs(reference.value))


def _scaled(scalar: Scalar, factor: Fraction) -> Scalar:
    if factor == 1:
        return scalar
    if scalar.value is not None:
        value = scalar.value * factor
        return dataclasses.replace(scalar, value=value, text=str(value))
    text = rf"\frac{{{factor.numerator}}}{{{factor.denominator}}}\cdot ({scalar.text})"
    return dataclasses.replace(scalar, text=text)


def _is_in_another_unit(reference: Scalar, answer: Scalar, unit: Unit) -> bool:
    """Whether 150 for "2 hours and 30 minutes" counts another unit of the table: minutes."""
    with_unit, without = (reference, answer) if reference.unit else (answer, reference)
    if with_unit.value is None or without.value is None:
        return False
    size = with_unit.value * unit.factor
    return any(size == without.value * factor for factor in factors(unit.dimension))


def _is_shortened(short: Scalar, number: Scalar) -> bool:
    """Whether one is a number and the other like 5k, which may be 5,000, or 5m, which is 5 m."""
    return number.value is not None and _SHORTENED.fullmatch(short.text) is not None
