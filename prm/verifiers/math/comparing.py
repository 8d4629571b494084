"""Compare two values by a rule. Equal, different, or a reason why it cannot be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from prm.verifiers.math.amounts import ScalarComparison
from prm.verifiers.math.finding import (
    DIFFERENT,
    SAME,
    Finding,
    all_same,
    any_same,
    at_most_unsure,
    unsure,
)
from prm.verifiers.math.regions import merged
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


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison(ScalarComparison):
    """How values of all kinds are compared."""

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
        if _is_nothing_and_zero(reference, answer) or _is_nothing_and_zero(answer, reference):
            return unsure("words")
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
        names = ({_key(one): one for one in reference}, {_key(one): one for one in answer})
        # What both sides hold needs no partner; long lists would take n * m comparisons.
        rows = [one for key, one in names[0].items() if key not in names[1]]
        columns = [one for key, one in names[1].items() if key not in names[0]]
        return all_same(
            [
                *(self._among(one, list(names[1].values())) for one in rows),
                *(self._among(one, list(names[0].values()), is_answer=True) for one in columns),
            ]
        )

    def _among(self, one: Value, others: Sequence[Value], *, is_answer: bool = False) -> Finding:
        """Whether a value that is not named among the others equals one of them."""
        if self.rule.tolerance == 0 and _is_number(one):
            others = [other for other in others if not _is_number(other)]
        return any_same(
            self.compare(other, one) if is_answer else self.compare(one, other) for other in others
        )


def _key(value: Value) -> Value | Fraction:
    """Values with the same key are equal; an exact number is its own key."""
    if isinstance(value, Scalar) and value.is_bare_number and value.value is not None:
        return value.value
    return value


def _is_number(value: Value) -> bool:
    return isinstance(value, Scalar) and value.is_bare_number


def _is_nothing_and_zero(nothing: Value, zero: Value) -> bool:
    """Whether one is the empty set and the other is 0: "none" and "0 solutions" are the same."""
    is_empty = isinstance(nothing, Group) and not nothing.items
    return is_empty and isinstance(zero, Scalar) and zero.value == 0


def _as_group(value: Value) -> Group:
    return value if isinstance(value, Group) else Group("", "", (value,))


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
