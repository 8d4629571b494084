"""Which solutions are worth a label: those that PRMs at hand are unsure of (ActPRM, 2504.10559).

    choose(pool, uncertainty(members, by="ensemble"), ChooseConfig(share=0.5), seed=0)
        {"chain/0041#3": Choice(propensity=0.82, chosen_by="ensemble")}

A solution is as unsure as its most unsure step up to the first predicted error: behind that one
nothing is labelled. Each is drawn by itself with a probability that rises with its uncertainty and
is never below a floor. So the probability of every label is known, and weights of 1 / propensity
give back the whole pool (Poisson sampling, Horvitz-Thompson).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from prm.errors import ConfigError, EncodingError

if TYPE_CHECKING:
    from prm.scoring import Scorer

By = Literal["ensemble", "entropy"]
Scores = Sequence[float]
Item = tuple[str, Sequence[str]]
_WRONG_BELOW = 0.5


@dataclasses.dataclass(frozen=True)
class ChooseConfig:
    """Label a part of the solutions, by how unsure published PRMs are of them."""

    prms: list[str] = dataclasses.field(default_factory=list)
    """Folders of published PRMs; trained on different seeds or data, where there are several."""
    by: By = "ensemble"
    """ensemble: the standard deviation of a step's scores between the PRMs. entropy: the binary
    entropy of their mean."""
    share: float = 0.5
    """Expected share of the solutions that are labelled."""
    greedy_share: float = 0.0
    """Share that is taken for certain, the most unsure ones first; part of `share`."""
    min_propensity: float = 0.05
    """No solution is chosen with less: its weight in training is at most 1 / this."""

    def __post_init__(self) -> None:
        """Check the settings against each other."""
        if not self.prms:
            raise ConfigError("choose.prms is empty: name at least one published PRM")
        if self.by == "ensemble" and len(self.prms) < 2:
            raise ConfigError(
                "choose.by ensemble compares PRMs: name two or more in choose.prms, or say entropy"
            )
        if not 0 < self.share <= 1 or not 0 <= self.greedy_share <= self.share:
            raise ConfigError(
                f"choose.share {self.share} should be in (0, 1], and choose.greedy_share "
                f"{self.greedy_share} between 0 and that"
            )
        if not 0 < self.min_propensity <= self.share:
            raise ConfigError(
                f"choose.min_propensity is {self.min_propensity}, should be above 0 and at most "
                f"choose.share ({self.share})"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """With which probability a solution was chosen, and by which rule."""

    propensity: float
    chosen_by: str


def step_uncertainty(members: Sequence[Scores], by: By) -> list[float]:
    """How unsure the members are of each step; ``members`` are the scores by each PRM."""
    steps = list(zip(*members, strict=True))
    if by == "ensemble":
        return [statistics.pstdev(scores) for scores in steps]
    return [_entropy(statistics.fmean(scores)) for scores in steps]


def uncertainty(members: Sequence[Scores], by: By) -> float:
    """That of the most unsure step up to the first one that the mean score calls wrong."""
    means = [statistics.fmean(scores) for scores in zip(*members, strict=True)]
    wrong = next((t for t, mean in enumerate(means) if mean < _WRONG_BELOW), len(means))
    return max(step_uncertainty(members, by)[: wrong + 1], default=0.0)


def propensities(unsure: Sequence[float], config: ChooseConfig) -> list[float]:
    """The probability of each to be chosen.

    They add up to the share of all, as far as floor and ceiling allow: to more where the greedy
    part and the floor of the others need more, to less where only the floor is left for many.

    The greedy part has 1. Of the others it is proportional to the uncertainty, between the floor
    and 1; the factor is found by bisection.
    """
    total = config.share * len(unsure)
    ranked = sorted(range(len(unsure)), key=lambda i: (-unsure[i], i))
    certain = set(ranked[: int(config.greedy_share * len(unsure))])
    rest = [max(0.0, value) for i, value in enumerate(unsure) if i not in certain]
    wanted = total - len(certain)
    if rest and not any(rest):
        rest = [1.0] * len(rest)
    low, high = 0.0, 1.0
    while rest and _sum(rest, high, config) < min(wanted, _most(rest, config)) - 1e-9:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _sum(rest, middle, config) < wanted else (low, middle)
    drawn = iter(_clipped(rest, high, config))
    return [1.0 if i in certain else next(drawn) for i in range(len(unsure))]


def choose(
    unsure: Mapping[str, float | None], config: ChooseConfig, *, seed: int
) -> dict[str, Choice]:
    """The chosen solutions, by id; None is one that no PRM can score, which has the share itself.

    So has one whose uncertainty is no number.
    Whether a solution is chosen depends on the seed, its id and its propensity, not on the order.
    """
    # Sorted: sums and ties must not depend on the order.
    known = {
        name: value
        for name, value in sorted(unsure.items())
        if value is not None and math.isfinite(value)
    }
    chances = dict(zip(known, propensities(list(known.values()), config), strict=True))
    chosen = {}
    for name in unsure:
        chance = chances.get(name, config.share)
        if _draw(seed, name) < chance:
            rule = config.by if name in known else "unscored"
            chosen[name] = Choice(chance, f"{rule}/certain" if chance >= 1 else rule)
    return chosen


def score_steps(scorer: Scorer, items: Sequence[Item]) -> list[list[float] | None]:
    """The step scores of (statement, steps) pairs; None where the PRM cannot read the pair."""
    try:
        return list(scorer.score_batch(items))
    except EncodingError:
        if len(items) == 1:
            return [None]
    # One of them is too long, say: find it, and score the others.
    middle = len(items) // 2
    return score_steps(scorer, items[:middle]) + score_steps(scorer, items[middle:])


def scores_of(prm: str, items: Mapping[str, Item]) -> dict[str, list[float]]:
    """The step scores by a published PRM, of the solutions that it can read.

    A solution with a score that is not finite is left out: the PRM cannot score it.
    """
    from prm.scoring import Scorer

    rows = score_steps(Scorer.from_pretrained(prm), list(items.values())) if items else []
    named = zip(items, rows, strict=True)
    return {
        name: scores
        for name, scores in named
        if scores is not None and all(map(math.isfinite, scores))
    }


def unsure_of(prms: Sequence[str], items: Mapping[str, Item], by: By) -> dict[str, float | None]:
    """How unsure the published PRMs are of each solution; None where one cannot score it.

    The PRMs are loaded one after the other.
    """
    members = [scores_of(prm, items) for prm in prms]
    return {
        name: uncertainty([member[name] for member in members], by)
        if all(name in member for member in members)
        else None
        for name in items
    }


def _sum(values: Sequence[float], factor: float, config: ChooseConfig) -> float:
    return sum(_clipped(values, factor, config))


def _most(values: Sequence[float], config: ChooseConfig) -> float:
    """What the probabilities add up to at most: one without any uncertainty stays at the floor."""
    return sum(1.0 if value else config.min_propensity for value in values)


def _clipped(values: Sequence[float], factor: float, config: ChooseConfig) -> list[float]:
    return [min(1.0, max(config.min_propensity, factor * value)) for value in values]


def _draw(seed: int, name: str) -> float:
    """A number in [0, 1) that belongs to the solution."""
    digest = hashlib.sha256(f"{seed}/choose/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _entropy(p: float) -> float:
    """In bits."""
    if p <= 0 or p >= 1:
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)
