"""How often two sources see the first error in the same place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from data_gen.labelers.places import NONE
from prm.evaluation.bootstrap import Interval, wilson

Said = Mapping[str, str]
"""Where each source that says anything sees the first error of one solution."""


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """Of the solutions on which both say something: Wilson's interval, and Cohen's kappa.

    ``kappa`` is None where chance alone would make them agree on everything.
    """

    share: Interval
    kappa: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two sources: on the place of the first error, and on whether there is one.

    ``on_place`` and ``on_verdict`` are None where no solution has a word of both.
    """

    first: str
    second: str
    num: int
    on_place: Agreement | None
    on_verdict: Agreement | None

    @property
    def least_errors(self) -> float | None:
        """The two error rates sum to at least this: where they differ, one of them is wrong."""
        return None if self.on_place is None else 1 - self.on_place.share.mean


def pairs(sources: Sequence[str], said: Sequence[Said]) -> tuple[Pair, ...]:
    """Every two sources, in the order that they are given."""
    return tuple(_pair(a, b, said) for a, b in combinations(sources, 2))


def verdict_of(place: str) -> str:
    """Whether there is an error, of its place."""
    return "right" if place == NONE else "wrong"


def _pair(first: str, second: str, said: Sequence[Said]) -> Pair:
    both = [(one[first], one[second]) for one in said if first in one and second in one]
    if not both:
        return Pair(first, second, 0, None, None)
    verdicts = [(verdict_of(a), verdict_of(b)) for a, b in both]
    return Pair(first, second, len(both), _agreement(both), _agreement(verdicts))


def _agreement(both: Sequence[tuple[str, str]]) -> Agreement:
    num, same = len(both), sum(a == b for a, b in both)
    left, right = (Counter(pair[side] for pair in both) for side in (0, 1))
    by_chance = sum(left[place] * right[place] for place in left) / num**2
    kappa = None if by_chance == 1 else (same / num - by_chance) / (1 - by_chance)
    return Agreement(wilson(same, num), kappa)
