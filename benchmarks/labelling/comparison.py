"""Rollout tokens at equal accuracy: our labeler's curve beside every other method.

A labeler with a price for its tokens gives a curve: accuracy against tokens, one point a price. A
baseline has one point, its best setting, chosen with the truth. The ratio is the tokens of the
baseline over those of the cheapest point of the curve that is at least as accurate: nothing is
interpolated between points, which is conservative. Not reached is a ratio of 0. Both are measured
on the solutions with a wrong answer, as the checker sees it.

Intervals are 95% from a cluster bootstrap over problems; the chosen setting is kept in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelling.outcomes import (
    NO_ERROR,
    Method,
    Outcome,
    RolloutsFactory,
    Sweep,
    label_outcome,
)
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.protocols import Labeler
from prm.records import Solution

NUM_RESAMPLES = 200
MIN_ACCURACY = 0.5
"""A baseline that is right less often is shown and not counted."""
Truth = Callable[[], Sequence[int | None]]
"""Tells the first errors; asked once, when all methods have run."""
Baselines = Callable[[Sequence[Solution], RolloutsFactory], list[Method]]


@dataclasses.dataclass(frozen=True)
class Point:
    """A setting on some solutions: accuracy, and tokens a solution."""

    setting: str
    accuracy: float
    tokens: float
    mean_belief: float
    num_short: int = 0
    """Requests that got fewer rollouts than asked for, over the whole pool."""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Tokens of a baseline in those of ours at its accuracy; 0 = that accuracy is not reached."""

    value: float
    low: float
    high: float
    resampled: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Against:
    """Our curve beside one baseline."""

    baseline: str
    point: Point
    """The baseline on solutions with a wrong answer."""
    all_solutions: Point
    ours: Point | None
    """The cheapest point of the curve that is as accurate; None = not reached."""
    ratio: Ratio
    all_ratio: float
    """The same on all solutions."""

    @property
    def is_counted(self) -> bool:
        """Whether the baseline is right often enough to be worth a comparison."""
        return self.point.accuracy >= MIN_ACCURACY


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Our labeler as it is by default: what a user gets."""

    wrong: Point
    interval: tuple[float, float]
    """Of the accuracy."""
    tokens_per_correct: float
    all_solutions: Point
    hidden_recall: float | None
    """Right answers with a wrong step: the share that is said to have one. None: there are none."""
    false_alarms: float | None
    """Right answers without a wrong step: the share that is said to have one."""
    bins: tuple[tuple[float, float, int], ...]
    """Wrong answers in five equal bins of belief: mean belief, accuracy, count; no empty ones."""
    above: dict[str, tuple[float, float | None]]
    """Belief above .5 and .8: the share of wrong answers, and the accuracy there."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All of one pool."""

    name: str
    num_solutions: int
    num_wrong: int
    fixed: Fixed
    curve: tuple[Point, ...]
    against: tuple[Against, ...]


def compare(
    pool: Sequence[Solution],
    factory: RolloutsFactory,
    first_errors: Truth,
    *,
    name: str,
    baselines: Baselines,
    sweep: Sweep,
    default: Labeler,
) -> Comparison:
    """Run everything, then ask for the truth, then judge.

    ``sweep`` is our labeler at several prices, ``default`` as it is by default; ``factory`` makes
    rollouts that begin anew, so that every method has the same draws. See
    `benchmarks.labelling.baselines` for the methods.
    """
    fixed = label_outcome("default", default, pool, factory)
    curve = sweep(pool, factory)
    methods = baselines(pool, factory)
    verdicts = wait_for(own_verdicts(pool, factory(), None))
    wrong = np.array([verdict.label is False for verdict in verdicts])
    right = np.array([verdict.label is True for verdict in verdicts])
    truth = np.array([NO_ERROR if one is None else one for one in first_errors()], np.int64)
    judge = Judge(truth, wrong, [solution.problem_id for solution in pool])
    return Comparison(
        name,
        len(pool),
        int(wrong.sum()),
        _fixed(judge, fixed, right),
        tuple(judge.point(one) for one in curve),
        tuple(_against(judge, method, curve) for method in methods),
    )


class Judge:
    """Compares places with the truth; the only one who has it."""

    def __init__(
        self, truth: NDArray[np.int64], wrong: NDArray[np.bool_], problems: Sequence[str]
    ) -> None:
        """Draw the resamples of problems: the same ones for every method."""
        self.truth, self.wrong = truth, wrong
        names = {name: index for index, name in enumerate(dict.fromkeys(problems))}
        self._problem = np.array([names[name] for name in problems], np.int64)
        rng, count = np.random.default_rng(0), len(names)
        draws = rng.multinomial(count, np.full(count, 1 / count), NUM_RESAMPLES)
        self.weights = np.concatenate([np.ones((1, count), np.int64), draws])
        """How often each problem is taken; the first row is the sample itself."""

    def hits(self, outcome: Outcome) -> NDArray[np.bool_]:
        """Whether the place is the true one, by solution."""
        return np.asarray(outcome.places == self.truth)

    def point(self, outcome: Outcome, *, everything: bool = False) -> Point:
        """Accuracy and tokens on wrong answers, or on all solutions."""
        mask = np.ones_like(self.wrong) if everything else self.wrong
        return Point(
            outcome.setting,
            _mean(self.hits(outcome)[mask]),
            _mean(outcome.tokens[mask]),
            _mean(outcome.beliefs[mask]),
            outcome.num_short,
        )

    def best(self, method: Method) -> Outcome:
        """The most accurate setting on wrong answers; of equals the cheapest."""
        points = [self.point(one) for one in method.outcomes]
        order = [(-point.accuracy, point.tokens) for point in points]
        return method.outcomes[order.index(min(order))]

    def sums(self, values: NDArray[np.generic], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The sum over the masked solutions in every resample."""
        by_problem = np.bincount(
            self._problem[mask], values[mask].astype(float), self.weights.shape[1]
        )
        return self.weights @ by_problem

    def ratios(
        self, outcome: Outcome, curve: Sequence[Outcome], mask: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Tokens of the outcome over the cheapest point as accurate, in every resample.

        A point that costs less than a token a solution counts as one token a solution.
        """
        hits, tokens = self.sums(self.hits(outcome), mask), self.sums(outcome.tokens, mask)
        floor = np.maximum(self.sums(np.ones_like(self.truth), mask), 1.0)
        cheapest = np.full(len(hits), np.inf)
        for point in curve:
            reached = self.sums(self.hits(point), mask) >= hits
            cost = np.maximum(self.sums(point.tokens, mask), floor)
            cheapest = np.where(reached, np.minimum(cheapest, cost), cheapest)
        return np.asarray(tokens / cheapest)


def geometric_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the first axis; a single 0 makes it 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(values).mean(axis=0)))


def _against(judge: Judge, method: Method, curve: Sequence[Outcome]) -> Against:
    best = judge.best(method)
    ratios = judge.ratios(best, curve, judge.wrong)
    point = judge.point(best)
    ours = [judge.point(one) for one in curve]
    reached = [one for one in ours if one.accuracy >= point.accuracy]
    low, high = np.quantile(ratios[1:], [0.025, 0.975])
    return Against(
        method.name,
        point,
        judge.point(best, everything=True),
        min(reached, key=lambda one: one.tokens, default=None),
        Ratio(float(ratios[0]), float(low), float(high), tuple(ratios[1:].tolist())),
        float(judge.ratios(best, curve, np.ones_like(judge.wrong))[0]),
    )


def _fixed(judge: Judge, outcome: Outcome, right: NDArray[np.bool_]) -> Fixed:
    hits, wrong = judge.hits(outcome), judge.wrong
    counts = judge.sums(np.ones_like(judge.truth), wrong)
    shares = judge.sums(hits, wrong)[1:] / np.maximum(counts[1:], 1.0)
    low, high = np.quantile(shares, [0.025, 0.975])
    beliefs, alarm = outcome.beliefs[wrong], outcome.places >= 0
    hidden, clean = right & (judge.truth >= 0), right & (judge.truth == NO_ERROR)
    above = {}
    for bound in (0.5, 0.8):
        sure = beliefs > bound
        above[f"{bound:g}"] = (_mean(sure), _mean(hits[wrong][sure]) if sure.any() else None)
    return Fixed(
        judge.point(outcome),
        (float(low), float(high)),
        float(outcome.tokens[wrong].sum() / max(1, hits[wrong].sum())),
        judge.point(outcome, everything=True),
        _mean(alarm[hidden]) if hidden.any() else None,
        _mean(alarm[clean]) if clean.any() else None,
        _bins(beliefs, hits[wrong]),
        above,
    )


def _bins(
    beliefs: NDArray[np.float64], hits: NDArray[np.bool_]
) -> tuple[tuple[float, float, int], ...]:
    which = np.minimum((beliefs * 5).astype(int), 4)
    return tuple(
        (_mean(beliefs[which == one]), _mean(hits[which == one]), int((which == one).sum()))
        for one in range(5)
        if (which == one).any()
    )


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.astype(float).mean()) if len(values) else 0.0
