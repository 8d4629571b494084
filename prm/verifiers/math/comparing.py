"""Compare two values by a rule. Equal, different, or a reason why it cannot be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from prm.verifiers.math.finding import (
    DIFFERENT,
    SAME,
    SYMBOLIC,
    Finding,
    all_same,
    any_same,
    at_most_unsure,
    unsure,
)
from prm.verifiers.math.regions import merged
from prm.verifiers.math.rule import MathRule
from prm.verifiers.math.values import (
    INFINITE,
    Choice,
    Group,
    Matrix,
    Named,
    Region,
    Scalar,
    Value,
    Word,
)


class Algebra(Protocol):
    """Compares two expressions that exact arithmetic cannot read."""

    def __call__(self, reference: str, answer: str) -> Finding:
        """Equal, different or unsure."""
        ...


def no_algebra(reference: str, answer: str) -> Finding:
    """Only the same text is the same; for all else algebra is needed."""
    return SAME if reference == answer else SYMBOLIC


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """How values are compared: by ``rule``, with ``algebra`` for what arithmetic leaves open."""

    rule: MathRule
    algebra: Algebra

    def compare(self, reference: Value, answer: Value) -> Finding:
        """Compare what was read."""
        if isinstance(reference, Named) or isinstance(answer, Named):
            return self._named(reference, answer)
        if isinstance(reference, Choice) or isinstance(answer, Choice):
            is_pair = isinstance(reference, Choice) and isinstance(answer, Choice)
            return Finding(reference == answer) if is_pair else unsure("unparsed")
        if isinstance(reference, Word) or isinstance(answer, Word):
            return self._words(reference, answer)
        if isinstance(reference, Matrix) or isinstance(answer, Matrix):
            return self._matrices(reference, answer)
        if isinstance(reference, Region) or isinstance(answer, Region):
            return self._regions(reference, answer)
        if isinstance(reference, Scalar) and isinstance(answer, Scalar):
            return self.scalars(reference, answer)
        return self._groups(_as_group(reference), _as_group(answer))

    def _named(self, reference: Value, answer: Value) -> Finding:
        if _is_open_relation(reference) or _is_open_relation(answer):
            texts = [one.text for one in (reference, answer) if isinstance(one, Named | Scalar)]
            return self.algebra(*texts) if len(texts) == 2 else unsure("undecided")
        if isinstance(reference, Named) and isinstance(answer, Named):
            found = self.compare(reference.value, answer.value)
            is_same_name = _bare(reference.name) == _bare(answer.name)
            return found if is_same_name else at_most_unsure(found, "names")
        return self.compare(
            reference.value if isinstance(reference, Named) else reference,
            answer.value if isinstance(answer, Named) else answer,
        )

    def _words(self, reference: Value, answer: Value) -> Finding:
        if isinstance(reference, Word) and isinstance(answer, Word):
            return SAME if _bare(reference.text) == _bare(answer.text) else unsure("words")
        return unsure("unparsed")

    def _matrices(self, reference: Value, answer: Value) -> Finding:
        if isinstance(reference, Matrix) and isinstance(answer, Matrix):
            if _shape(reference) != _shape(answer):
                return DIFFERENT
            pairs = zip(_cells(reference), _cells(answer), strict=True)
            return all_same(self.compare(one, other) for one, other in pairs)
        matrix, other = (
            (reference, answer) if isinstance(reference, Matrix) else (answer, reference)
        )
        assert isinstance(matrix, Matrix)
        cells = _cells(matrix)
        if len(cells) == 1:
            return self.compare(cells[0], other)
        if isinstance(other, Group) and not other.is_unordered and 1 in _shape(matrix):
            return at_most_unsure(self._in_order(cells, other.items), "notation")
        return unsure("undecided")

    def _regions(self, reference: Value, answer: Value) -> Finding:
        parts = [
            value.parts if isinstance(value, Region) else (_as_group(value),)
            for value in (reference, answer)
        ]
        shortest = [merged(part) for part in parts]
        if shortest[0] is not None and shortest[1] is not None:
            return Finding(shortest[0] == shortest[1])
        found = self._as_sets(parts[0], parts[1])
        # Without exact ends it is not known which parts meet: only a full match says something.
        return found if found.equal or found.reason else unsure("undecided")

    def _groups(self, reference: Group, answer: Group) -> Finding:
        if self.rule.order == "ignore":
            return self._as_sets(reference.items, answer.items)
        if reference.is_unordered and answer.is_unordered:
            return self._as_sets(reference.items, answer.items)
        if reference.is_unordered or answer.is_unordered:
            return self._list_and_tuple(reference, answer)
        if len(reference.items) != len(answer.items):
            return DIFFERENT
        found = self._in_order(reference.items, answer.items)
        if reference.from_relation != answer.from_relation:
            found = self._inequality_and_interval(found)
        is_strict = self.rule.intervals == "strict" and reference.is_interval
        if is_strict and _ends(reference) != _ends(answer):
            return DIFFERENT
        return found

    def _inequality_and_interval(self, found: Finding) -> Finding:
        is_allowed = self.rule.inequalities == "as_intervals"
        return found if is_allowed else at_most_unsure(found, "notation")

    def _list_and_tuple(self, reference: Group, answer: Group) -> Finding:
        """A bare list may be a tuple without its brackets; a set is none."""
        as_sets = self._as_sets(reference.items, answer.items)
        is_bare = "" in (reference.begin, answer.begin) and "[" not in (
            reference.begin,
            answer.begin,
        )
        if len(reference.items) == len(answer.items) and is_bare:
            in_order = self._in_order(reference.items, answer.items)
            return in_order if in_order.equal is not False else at_most_unsure(as_sets, "order")
        return at_most_unsure(as_sets, "notation")

    def _in_order(self, reference: Sequence[Value], answer: Sequence[Value]) -> Finding:
        if len(reference) != len(answer):
            return DIFFERENT
        pairs = zip(reference, answer, strict=True)
        return all_same(self.compare(one, other) for one, other in pairs)

    def _as_sets(self, reference: Sequence[Value], answer: Sequence[Value]) -> Finding:
        """Every element has its equal on the other side; how often it is named does not matter."""
        if not reference or not answer:
            return Finding(len(reference) == len(answer))
        found = [[self.compare(one, other) for other in answer] for one in reference]
        columns = zip(*found, strict=True)
        return all_same([*map(any_same, found), *map(any_same, columns)])

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
            if is_angle or self._amounts(*scaled).equal:
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
            return self.algebra(reference.text, answer.text)
        error = abs(reference.value - answer.value)
        return Finding(error <= Fraction(self.rule.tolerance) * abs(reference.value))


def _as_group(value: Value) -> Group:
    return value if isinstance(value, Group) else Group("", "", (value,))


def _scaled(scalar: Scalar, factor: Fraction) -> Scalar:
    if factor == 1:
        return scalar
    if scalar.value is not None:
        value = scalar.value * factor
        return dataclasses.replace(scalar, value=value, text=str(value))
    text = rf"\frac{{{factor.numerator}}}{{{factor.denominator}}}\cdot ({scalar.text})"
    return dataclasses.replace(scalar, text=text)


def _is_open_relation(value: Value) -> bool:
    """Whether it is a relation that is not solved for one unknown."""
    signs = ("=", "<", ">", r"\le ", r"\ge ")
    return isinstance(value, Scalar) and any(sign in value.text for sign in signs)


def _bare(text: str) -> str:
    text = text.replace(r"\text", "").casefold()
    words = [word for word in text.split() if word not in ("a", "an", "the")]
    return "".join(character for word in words for character in word if character not in "{}.\\")


def _shape(matrix: Matrix) -> tuple[int, ...]:
    return (len(matrix.rows), *(len(row) for row in matrix.rows[:1]))


def _cells(matrix: Matrix) -> list[Value]:
    return [cell for row in matrix.rows for cell in row]


def _ends(group: Group) -> tuple[str, str]:
    """The brackets; at infinity they say nothing."""
    low, high = (item.text if isinstance(item, Scalar) else "" for item in group.items)
    return ("(" if low in INFINITE else group.begin, ")" if high in INFINITE else group.end)
