"""What a labeling method made of a pool: a place for each first error, and its tokens.

Every method runs through `run_labeler`, on rollouts of its own that begin at the first draw, and
tokens are charged by `ChargedRollouts` as they are generated, whatever the labeler says of itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from prm.protocols import Labeler, Rollout, Rollouts
from prm.records import LabelledSolution, Solution

NO_ERROR = -1
"""The place of a first error that is not there."""
UNKNOWN = -2
"""The place where a labeler names none: it never counts as right."""

RolloutsFactory = Callable[[], Rollouts]
"""Makes rollouts that begin anew, so that every method sees the same draws."""


class ChargedRollouts:
    """Passes requests on and charges each solution for what it asked. Satisfies `Rollouts`."""

    def __init__(self, rollouts: Rollouts, pool: Sequence[Solution]) -> None:
        """Begin at zero for every solution of the pool."""
        self._rollouts = rollouts
        self._index = {solution.id: index for index, solution in enumerate(pool)}
        self.tokens = np.zeros(len(pool), np.int64)
        self.num_rollouts = 0
        """Continuations asked for, the verdicts of whole solutions not counted."""
        self.num_short = 0
        """Requests that got fewer than they asked for."""
        self.num_rounds = 0

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """See `prm.protocols.Rollouts`."""
        groups = await self._rollouts.sample_many(requests)
        self.num_rounds += 1
        for (solution, kept, asked), group in zip(requests, groups, strict=True):
            if kept < len(solution.steps):
                self.num_rollouts += len(group)
            self.num_short += len(group) < asked
            self.tokens[self._index[solution.id]] += sum(one.num_tokens for one in group)
        return groups


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One setting of a method on the whole pool; arrays in the order of the pool."""

    setting: str
    places: NDArray[np.int64]
    """Index of the first wrong step, NO_ERROR or UNKNOWN."""
    beliefs: NDArray[np.float64]
    """What the method itself gives for the place, in [0, 1]; 0 where it names none."""
    tokens: NDArray[np.int64]
    num_rollouts: int
    num_short: int = 0


@dataclasses.dataclass(frozen=True)
class Method:
    """A method with all its settings; the best is chosen with the truth, when all have run."""

    name: str
    outcomes: tuple[Outcome, ...]


Sweep = Callable[[Sequence[Solution], RolloutsFactory], list[Outcome]]
"""Our labeler on a pool, one outcome a price."""


def run_labeler(
    labeler: Labeler, pool: Sequence[Solution], factory: RolloutsFactory
) -> tuple[list[LabelledSolution], ChargedRollouts]:
    """Label the pool; what was charged comes with the labels."""
    charged = ChargedRollouts(factory(), pool)
    labelled = labeler.label(pool, charged)
    if [one.id for one in labelled] != [solution.id for solution in pool]:
        raise ValueError(f"{type(labeler).__name__} did not label the pool in its order")
    return labelled, charged


def make_outcome(
    setting: str,
    found: Sequence[tuple[int, float]],
    charged: ChargedRollouts,
) -> Outcome:
    """An outcome from a (place, belief) for each solution."""
    return Outcome(
        setting,
        np.array([place for place, _ in found], np.int64),
        np.array([belief for _, belief in found], np.float64),
        charged.tokens,
        charged.num_rollouts,
        charged.num_short,
    )


def label_outcome(
    setting: str, labeler: Labeler, pool: Sequence[Solution], factory: RolloutsFactory
) -> Outcome:
    """Run a labeler and take the likeliest place of its own `first_error`."""
    labelled, charged = run_labeler(labeler, pool, factory)
    return make_outcome(setting, [likeliest(one.first_error) for one in labelled], charged)


def likeliest(first_error: dict[str, float]) -> tuple[int, float]:
    """The likeliest place and its probability; nothing known is UNKNOWN with 0."""
    if not first_error:
        return UNKNOWN, 0.0
    name, belief = max(first_error.items(), key=lambda item: item[1])
    return (NO_ERROR if name == "none" else int(name)), belief
