"""What an answer can be: a number, several, an interval, a matrix, a choice, words."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from prm.verifiers.math.units import Unit

INFINITE = (r"\infty", r"-\infty")


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """An expression; ``value`` where it is exact arithmetic, ``digits`` where it names a base."""

    text: str
    value: Fraction | None = None
    unit: Unit | None = None
    has_unit: bool = False
    is_percent: bool = False
    digits: str = ""

    @property
    def is_bare_number(self) -> bool:
        """Whether it is a number and nothing else: no unit, no percent, no base."""
        return self.value is not None and not (self.has_unit or self.is_percent or self.digits)


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    r"""Several values. Brackets: none for a bare list, ``\{`` for a set, ``(`` and ``[``."""

    begin: str
    end: str
    items: tuple[Value, ...]
    from_relation: bool = False

    @property
    def is_unordered(self) -> bool:
        """Whether it is a set or a bare list."""
        return self.begin in ("", r"\{")

    @property
    def is_interval(self) -> bool:
        """Whether it can be read as an interval."""
        return not self.is_unordered and len(self.items) == 2


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals."""

    parts: tuple[Group, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix, row by row."""

    rows: tuple[tuple[Value, ...], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A value and what it is the value of: ``x = 5``; ``text`` is the whole relation."""

    name: str
    value: Value
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of a closed list: a letter, or yes or no."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """Text that is no mathematics; it can be the same as another, and nothing else."""

    text: str


Value = Scalar | Group | Region | Matrix | Named | Choice | Word
