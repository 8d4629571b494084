"""What judges and old PRMs say of the first error, as likelihoods with measured confusions.

How far a source can be believed is not assumed: its confusions are learned over the pool, by EM
together with the posterior (Dawid and Skene 1979, with places of the first error for classes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from data_gen.labelers.bayes_model import Array
from prm.errors import RecordError
from prm.records import Opinion, Solution

NUM_BINS = 6
"""Equal shares of an old PRM's scores over the pool."""
_SHARED_NOISE = 0.5
"""Exponent of what the scores of one solution say together: their errors are alike."""
_PRIOR_WEIGHT = 5.0
_EM_ROUNDS = 5
_NEAR = 0.6
"""A vote beside the true place is this much less likely for each step that it is off."""


@dataclasses.dataclass
class _Judge:
    """Confusions of one author."""

    exact: float = 0.5
    """P(names the place | an error there)."""
    missed: float = 0.25
    """P(says none | an error)."""
    silent: float = 0.75
    """P(says none | no error)."""


class Sources:
    """Opinions and scores of a pool; arrays are aligned at the end like its evidence."""

    def __init__(
        self,
        solutions: Sequence[Solution],
        opinions: Mapping[str, Sequence[Opinion]],
        scores: Mapping[str, Sequence[float]],
    ) -> None:
        """By solution id; solutions that are not there have none."""
        self._shape = len(solutions), max(len(one.steps) for one in solutions) + 1
        self._lengths = np.array([len(one.steps) for one in solutions])
        self._judges: dict[str, _Judge] = {}
        self._votes: list[tuple[int, str, Array]] = []
        for b, solution in enumerate(solutions):
            for opinion in opinions.get(solution.id, ()):
                self._judges.setdefault(opinion.author, _Judge())
                votes = self._columns(opinion, len(solution.steps))
                if votes.sum():
                    # Votes of one author are alike: k of them count as sqrt(k).
                    weighted = votes / np.sqrt(votes.sum())
                    self._votes.append((b, opinion.author, weighted))
        self._bins = self._bin(solutions, scores)
        rising = 0.5 + np.arange(NUM_BINS) / NUM_BINS
        self._table = np.array([rising, rising[::-1], rising[::-1]])
        self._table /= self._table.sum(1, keepdims=True)

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self._votes) or bool((self._bins >= 0).any())

    def _columns(self, opinion: Opinion, length: int) -> Array:
        votes = np.zeros(self._shape[1])
        first = self._shape[1] - 1 - length
        for place, count in opinion.votes.items():
            if place == "none":
                votes[-1] += count
            elif 0 <= int(place) < length:
                votes[first + int(place)] += count
        return votes

    def _bin(self, solutions: Sequence[Solution], scores: Mapping[str, Sequence[float]]) -> Array:
        """(B, P) number of the bin of each step's score, -1 = none."""
        bins = np.full((self._shape[0], self._shape[1] - 1), -1)
        known = [s for one in solutions for s in scores.get(one.id, ())]
        edges = np.quantile(known, np.arange(1, NUM_BINS) / NUM_BINS) if known else np.zeros(0)
        for b, solution in enumerate(solutions):
            own = scores.get(solution.id, ())
            if len(own) not in (0, len(solution.steps)):
                raise RecordError(
                    f"solution {solution.id!r} has {len(solution.steps)} steps and {len(own)} "
                    "scores: give one score a step, of the same solutions"
                )
            if len(own):
                bins[b, self._shape[1] - 1 - len(own) :] = np.searchsorted(edges, own)
        return bins

    def likelihood(self) -> Array:
        """(B, P + 1): P(what the sources say | place of the first error), each row's largest 1."""
        log = np.zeros(self._shape)
        for b, author, votes in self._votes:
            log[b] += self._of_votes(self._judges[author], votes, int(self._lengths[b]))
        log += _SHARED_NOISE * self._of_scores()
        before = np.arange(self._shape[1]) < (self._shape[1] - 1 - self._lengths)[:, None]
        top = np.where(before, -np.inf, log).max(1, keepdims=True)
        return np.asarray(np.where(before, 1.0, np.exp(log - top)))

    def _of_votes(self, judge: _Judge, votes: Array, length: int) -> Array:
        width = self._shape[1]
        first = width - 1 - length
        steps = np.arange(first, width - 1)
        out = np.zeros(width)
        near = _NEAR ** np.abs(steps[:, None] - steps[None]) * (1 - np.eye(length))
        near /= np.maximum(near.sum(1, keepdims=True), 1e-12)
        other = max(1.0 - judge.exact - judge.missed, 1e-3)
        table = judge.exact * np.eye(length) + other * near
        out[steps] = np.log(np.maximum(table, 1e-4)) @ votes[steps]
        out[steps] += votes[-1] * np.log(judge.missed)
        alarm = np.log((1.0 - judge.silent) / length)
        out[-1] = votes[steps].sum() * alarm + votes[-1] * np.log(judge.silent)
        return out

    def _of_scores(self) -> Array:
        """Sum of log P(bin | before, at, behind the error) for every place."""
        known = self._bins >= 0
        before, at, behind = (
            np.where(known, np.log(self._table[k])[np.maximum(self._bins, 0)], 0.0)
            for k in range(3)
        )
        out = np.zeros(self._shape)
        out[:, :-1] = np.cumsum(before, 1) - before + at
        out[:, :-1] += behind.sum(1, keepdims=True) - np.cumsum(behind, 1)
        out[:, -1] = before.sum(1)
        return out

    def learn(self, belief: Array) -> None:
        """Confusions from the posterior (B, P + 1) of the places.

        What the sources said is taken out of it first: they must not prove themselves right.
        """
        without = belief / np.maximum(self.likelihood(), 1e-12)
        without /= np.maximum(without.sum(1, keepdims=True), 1e-300)
        for author in self._judges:
            for _ in range(_EM_ROUNDS):
                self._learn_judge(author, without)
        if (self._bins >= 0).any():
            for _ in range(_EM_ROUNDS):
                self._learn_table(_with(without, np.exp(_SHARED_NOISE * self._of_scores())))

    def _learn_judge(self, author: str, without: Array) -> None:
        sums, judge = np.zeros(5), self._judges[author]
        for b, name, votes in self._votes:
            if name == author:
                said = np.exp(self._of_votes(judge, votes, int(self._lengths[b])))
                belief = _with(without[b], said)
                share = votes / votes.sum()
                wrong = 1.0 - belief[-1]
                agree = float((belief[:-1] * share[:-1]).sum())
                sums += [agree, wrong * share[-1], wrong, belief[-1] * share[-1], belief[-1]]
        exact, missed, wrong, silent, right = sums
        prior, weight = _Judge(), _PRIOR_WEIGHT
        self._judges[author] = _Judge(
            exact=min(0.97, (exact + weight * prior.exact) / (wrong + weight)),
            missed=(missed + weight * prior.missed) / (wrong + weight),
            silent=min(0.99, (silent + weight * prior.silent) / (right + weight)),
        )

    def _learn_table(self, belief: Array) -> None:
        at = belief[:, :-1]
        passed = np.cumsum(at, 1)
        weights = (1.0 - passed, at, passed - at)
        for k, weight in enumerate(weights):
            counts = np.array([weight[self._bins == i].sum() for i in range(NUM_BINS)])
            counts += _PRIOR_WEIGHT / NUM_BINS
            self._table[k] = counts / counts.sum()


def _with(belief: Array, said: Array) -> Array:
    """The belief after what was said; shapes (..., P + 1)."""
    joint = belief * said
    return np.asarray(joint / np.maximum(joint.sum(-1, keepdims=True), 1e-300))
