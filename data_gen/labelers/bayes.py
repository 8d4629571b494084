"""Step labels at the fewest tokens: one posterior a solution over its first error.

All counts of a solution are read together (`bayes_model`), the next rollout goes where it tells
most of the first error for its tokens, and none is bought that is not worth its ``price``. The
parameters of the chain are learned over the pool while it is labelled; siblings' verdicts, judges
and old PRMs are evidence too. Thousands of solutions are in flight: each round asks for one rollout
of each that is still open (later for a few).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from data_gen.labelers.bayes_choice import AHEAD, OVERHEAD, values
from data_gen.labelers.bayes_labels import to_labels, without_steps
from data_gen.labelers.bayes_learning import learn
from data_gen.labelers.bayes_model import Array, Hyper
from data_gen.labelers.bayes_pool import Pool
from data_gen.labelers.bayes_reading import PoolReader
from data_gen.labelers.bayes_sources import Sources
from data_gen.labelers.prefix import Key
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.errors import ConfigError
from prm.protocols import Check, Rollouts
from prm.records import LabelledSolution, Opinion, Solution

_LEARN_AT = (0, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80, 110, 150, 200, 300, 400)
"""Rounds before which the parameters are learned anew."""
_MAX_LEARNED_FROM = 1200
"""Solutions that the parameters are learned from, whole problems."""
_MAX_SEARCHED_ON = 400
"""Of these, so many decide on the parameters that are found by trying."""


@dataclasses.dataclass(frozen=True)
class BayesLabeler:
    """A posterior over the first error; rollouts while they tell enough for their tokens."""

    price: float = 2e-5
    """Of a rollout token, in right labels: 2e-5 = pay up to 50,000 tokens for one more solution
    with the right first error. Higher = fewer tokens, lower = surer labels. It is a matter of your
    budget, not of the data."""
    max_rollouts: int = 300
    """Of one solution."""
    sure: float = 0.7
    """A hard label is given where the posterior is at least so sure."""
    learn: bool = True
    """Learn the chain's parameters over the pool; it should have hundreds of solutions."""
    completer: str = "completer"
    """The model that continues, as it is recorded in the labels."""

    name = "bayes"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.price < 0 or not 0.5 <= self.sure < 1 or self.max_rollouts < 0:
            raise ConfigError(
                f"bayes: price {self.price} and max_rollouts {self.max_rollouts} should be 0 or "
                f"more, sure {self.sure} from 0.5 to below 1"
            )

    def label(
        self,
        pool: Sequence[Solution],
        rollouts: Rollouts,
        *,
        check: Check | None = None,
        opinions: Mapping[str, Sequence[Opinion]] | None = None,
        scores: Mapping[str, Sequence[float]] | None = None,
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order.

        ``opinions``: by solution id, where judges see the first error. ``scores``: by solution
        id, an old PRM's score of each step; higher is better, no scale is assumed.
        """
        work = self._sweep(pool, rollouts, [self.price], check, opinions or {}, scores or {})
        return wait_for(work)[0]

    def sweep(
        self,
        pool: Sequence[Solution],
        rollouts: Rollouts,
        prices: Sequence[float],
        *,
        check: Check | None = None,
    ) -> list[list[LabelledSolution]]:
        """The labels at each price, highest first; a lower price goes on from the one before.

        Tokens of a label are those bought up to its price.
        """
        return wait_for(self._sweep(pool, rollouts, sorted(prices, reverse=True), check, {}, {}))

    async def _sweep(
        self,
        solutions: Sequence[Solution],
        rollouts: Rollouts,
        prices: Sequence[float],
        check: Check | None,
        opinions: Mapping[str, Sequence[Opinion]],
        scores: Mapping[str, Sequence[float]],
    ) -> list[list[LabelledSolution]]:
        verdicts = await own_verdicts(solutions, rollouts, check)
        whole = [i for i, one in enumerate(solutions) if one.steps]
        results: list[list[LabelledSolution]] = []
        run = None
        if whole:
            chosen = [solutions[i] for i in whole]
            pool = Pool(chosen, [verdicts[i] for i in whole])
            run = _Run(self, pool, Sources(chosen, opinions, scores))
        for price in prices:
            if run:
                await run.buy(price, rollouts)
            found = iter(run.labels(opinions) if run else [])
            results.append(
                [
                    next(found) if one.steps else without_steps(one, verdict, self)
                    for one, verdict in zip(solutions, verdicts, strict=True)
                ]
            )
        return results


def redecode(
    labelled: Sequence[LabelledSolution], labeler: BayesLabeler | None = None
) -> list[LabelledSolution]:
    """Read the kept counts and opinions of labels anew, without a rollout, learning over them."""
    labeler = labeler or BayesLabeler()
    whole = [one for one in labelled if one.solution.steps]
    if not whole:
        return list(labelled)
    solutions = [one.solution for one in whole]
    pool = Pool(solutions, [one.verdict for one in whole])
    pool.take_over(whole)
    opinions = {one.id: one.opinions for one in whole}
    run = _Run(labeler, pool, Sources(solutions, opinions, {}))
    for _ in range(8):
        run.learn()
    read = iter(run.labels(opinions))
    return [_reread(one, next(read)) if one.solution.steps else one for one in labelled]


def _reread(old: LabelledSolution, new: LabelledSolution) -> LabelledSolution:
    """The old label, all its evidence with it, as the new one reads it."""
    labels = tuple(
        dataclasses.replace(
            was, success_rate=now.success_rate, prefix_correct=now.prefix_correct, hard=now.hard
        )
        for was, now in zip(old.labels, new.labels, strict=True)
    )
    return dataclasses.replace(old, labels=labels, first_error=new.first_error, decoder=new.decoder)


class _Run:
    """One pool while it is labelled."""

    def __init__(self, labeler: BayesLabeler, pool: Pool, sources: Sources) -> None:
        self._labeler = labeler
        self._pool = pool
        self._sources = sources
        count = len(pool.solutions)
        self._bought = np.zeros(count, int)
        self._reasons = ["price"] * count
        self._round = 0
        self._step_tokens = 40.0
        if sources:
            pool.use_opinions(sources.likelihood())
        self._reader = PoolReader(Hyper(), pool.evidence)
        problems = pool.evidence.groups.problems
        order = np.random.default_rng(0).permutation(problems.max() + 1)
        self._learned_from = _whole_problems(problems, order, _MAX_LEARNED_FROM)
        self._searched_on = _whole_problems(problems, order, _MAX_SEARCHED_ON)

    async def buy(self, price: float, rollouts: Rollouts) -> None:
        """Ask for rollouts until none is worth its tokens."""
        is_open = np.ones(len(self._pool.solutions), bool)
        while True:
            if self._round in _LEARN_AT:
                self.learn()
            wanted = self._wanted(np.flatnonzero(is_open), price)
            is_open[:] = False
            if not wanted:
                return
            batch = _batch(self._round)
            asks: dict[Key, tuple[Solution, int, int]] = {}
            for b, slot in wanted:
                is_open[b] = True
                room = self._labeler.max_rollouts - int(self._bought[b])
                asks[self._pool.key(slot)] = self._pool.request(slot, min(room, batch))
                self._bought[b] += min(room, batch)
            await self._pool.tally.ask(asks, rollouts)
            self._measure({slot for _, slot in wanted})
            self._pool.refresh([slot for _, slot in wanted])
            self._round += 1

    def _wanted(self, index: Array, price: float) -> list[tuple[int, int]]:
        """(solution, prefix) of the best rollout of each solution, where it is worth its price."""
        wanted = []
        room = self._bought[index] < self._labeler.max_rollouts
        for b in index[~room]:
            self._reasons[b] = "max_rollouts"
        cost = self._pool.costs * self._step_tokens + OVERHEAD
        for part, post in self._reader.read(index[room], AHEAD):
            first = self._pool.longest + 1 - post.first_error.shape[1]
            slots = self._pool.slots[part, first:]
            ended = self._pool.ended[slots] & (slots >= 0)
            shut = ended | self._pool.unread[slots] | (slots < 0)
            worth = values(post) / cost[first:]
            value = np.where(shut, -1.0, worth)
            missed = np.where(ended, worth, -1.0).max(1) >= price
            for b, column, most, gone in zip(
                part, value.argmax(1), value.max(1), missed, strict=True
            ):
                if most >= price:
                    wanted.append((int(b), int(self._pool.slots[b, first + column])))
                else:
                    self._reasons[b] = "budget" if gone else "price"
        return wanted

    def _measure(self, slots: set[int]) -> None:
        """Learn what a step costs in tokens, over the pool."""
        tally, tokens, steps = self._pool.tally, 0.0, 0.0
        for slot in slots:
            key = self._pool.key(slot)
            tokens += tally.counts[key].tokens
            steps += tally.had[key] * self._pool.steps_left(slot)
        if steps:
            self._step_tokens = 0.7 * self._step_tokens + 0.3 * max(1.0, tokens / steps)

    def learn(self) -> None:
        """Better parameters and confusions, where that is wanted."""
        if self._labeler.learn:
            part = self._pool.evidence.rows(self._learned_from)
            search = np.flatnonzero(np.isin(self._learned_from, self._searched_on))
            hyper = learn(self._reader.hyper, part, search)
            if self._sources:
                self._sources.learn(self._beliefs())
                self._pool.use_opinions(self._sources.likelihood())
            self._reader.use(hyper)

    def _beliefs(self) -> Array:
        """(B, longest of the steps + 1) of the whole pool, aligned at the end."""
        solutions = self._pool.solutions
        out = np.zeros((len(solutions), max(len(one.steps) for one in solutions) + 1))
        for part, post in self._reader.read(np.arange(len(out)), 0):
            for b, belief in zip(part, post.first_error, strict=True):
                places = self._pool.places(int(b), belief)
                out[b, out.shape[1] - len(places) :] = places
        return out

    def labels(self, opinions: Mapping[str, Sequence[Opinion]]) -> list[LabelledSolution]:
        """What is known now; messages of solutions that were done long ago are worked out anew."""
        self._reader.use(self._reader.hyper)
        return to_labels(self._labeler, self._pool, self._reader, self._reasons, opinions)


def _batch(round_: int) -> int:
    """Rollouts a request: one tells most for its tokens, but the last solutions should not wait."""
    return 1 if round_ < 40 else 2 + (round_ - 40) // 60


def _whole_problems(problems: Array, order: Array, most: int) -> Array:
    """Solutions of problems in this order, so many at most (but one problem at least)."""
    sizes = np.bincount(problems)[order]
    count = max(1, int((np.cumsum(sizes) <= most).sum()))
    return np.flatnonzero(np.isin(problems, order[:count]))
