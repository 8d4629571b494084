"""The error of each source without any truth (A. P. Dawid and A. M. Skene, 1979, by EM).

The unknown truth of a solution of T steps is "no error" or one of T places. A full confusion
matrix over places could never be learnt, so a source has three parameters:

    right  P(it says none | there is no error)     else one of the T places, evenly
    hit    P(it names the place | there is an error)
    miss   P(it says none | there is an error)     else one of the T - 1 other places, evenly

It rests on sources that err independently given the truth: two that read the same rollouts, or
two judges of one family, look better than they are. And silence counts for nothing: a checker that
only ever speaks of errors makes a source look worse that rightly says that there is none.

With two sources many answers fit equally well, so there is none; `Pair.least_errors` is what can
be said then. Three are enough, but the likelihood is flat: for simulated sources with errors of
.08, .26 and .51 an estimate is off by up to .10 with 300 solutions, .09 with 1,000, and the
parameters by up to .02 with 30,000.

Shapes: S sources, N solutions (or patterns of what is said), U places (0 = none, t + 1 = step t).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data_gen.labelers.places import NONE
from prm.evaluation.bootstrap import Interval

SOURCES_NEEDED = 3
"""Independent sources that must speak of the same solutions for their errors to be told apart..."""
TOGETHER_NEEDED = 50
"""...and on how many solutions at least; with fewer the estimate is anything."""

_MAX_ROUNDS = 1000
_TOLERANCE = 1e-6
# A resample begins where the fit to all solutions ended, and its interval needs two digits.
_COARSE = 1e-4
_SILENT = -1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class Spoken:
    """What the sources that say anything say of one solution."""

    problem_id: str
    num_steps: int
    said: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class SourceError:
    """One source: ``error`` is the share of its places that are wrong, of ``num`` that it names.

    None: it cannot be told (it speaks with two others on fewer than `TOGETHER_NEEDED` solutions).
    The interval is a percentile bootstrap over problems.
    """

    source: str
    num: int
    error: Interval | None
    right: float | None = None
    hit: float | None = None
    miss: float | None = None


def source_errors(
    sources: Sequence[str],
    spoken: Sequence[Spoken],
    *,
    num_resamples: int = 200,
    seed: int = 0,
) -> tuple[SourceError, ...]:
    """The estimated error of each source, in order."""
    counts = Counter(source for one in spoken for source in one.said)
    table = _Table.of(sources, spoken)
    together = Counter(s for one in spoken if len(one.said) >= SOURCES_NEEDED for s in one.said)
    known = [together[source] >= TOGETHER_NEEDED for source in sources]
    if not any(known):
        return tuple(SourceError(source, counts[source], None) for source in sources)
    fit = _fit(table, table.weights(np.ones(table.num_problems)), _vote_shares(table), _TOLERANCE)
    rng = np.random.default_rng(seed)
    even = np.full(table.num_problems, 1 / table.num_problems)
    drawn = np.array(
        [
            _fit(table, table.weights(draw), fit.belief_NU, _COARSE).error_S
            for draw in rng.multinomial(table.num_problems, even, size=num_resamples)
        ]
    )
    # A source that says nothing in a resample has no error there.
    low, high = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    ends = iter(zip(low.tolist(), high.tolist(), strict=True))
    return tuple(
        SourceError(source, counts[source], Interval(float(error), *next(ends)), *part.tolist())
        if is_known
        else SourceError(source, counts[source], None)
        for source, error, part, is_known in zip(
            sources, fit.error_S, fit.parts_S3, known, strict=True
        )
    )


@dataclasses.dataclass(frozen=True)
class _Table:
    """The distinct patterns of what is said, and which solutions have them."""

    said_SN: Ints
    steps_N: Ints
    pattern: Ints
    """The pattern of each solution."""
    problem: Ints
    """The number of each solution's problem."""
    num_problems: int

    @classmethod
    def of(cls, sources: Sequence[str], spoken: Sequence[Spoken]) -> _Table:
        rows = [[one.num_steps, *(_index(one.said.get(s)) for s in sources)] for one in spoken]
        table = np.array(rows, dtype=np.int64).reshape(len(spoken), len(sources) + 1)
        patterns, pattern = np.unique(table, axis=0, return_inverse=True)
        numbers = {name: i for i, name in enumerate(dict.fromkeys(o.problem_id for o in spoken))}
        problem = np.array([numbers[one.problem_id] for one in spoken], dtype=np.int64)
        return cls(patterns[:, 1:].T, patterns[:, 0], pattern.reshape(-1), problem, len(numbers))

    def weights(self, per_problem: NDArray[np.generic]) -> Floats:
        """How many solutions have each pattern, each problem counted so often."""
        num = self.steps_N.size
        found = np.bincount(self.pattern, weights=per_problem[self.problem], minlength=num)
        return found.astype(np.float64)


def _index(place: str | None) -> int:
    if place is None:
        return _SILENT
    return 0 if place == NONE else int(place) + 1


@dataclasses.dataclass(frozen=True)
class _Fit:
    error_S: Floats
    """Share of wrong places among those that each source names."""
    parts_S3: Floats
    """Each source's right, hit and miss."""
    belief_NU: Floats


def _fit(table: _Table, weight_N: Floats, belief_NU: Floats, tolerance: float) -> _Fit:
    """Learn and believe in turns, from a first belief."""
    parts_S3 = np.zeros((len(table.said_SN), 3))
    for _ in range(_MAX_ROUNDS):
        before = parts_S3
        none, parts_S3 = _learn(table, weight_N, belief_NU)
        belief_NU = _believe(table, none, parts_S3)
        if np.abs(parts_S3 - before).max() < tolerance:
            break
    rows = np.arange(table.steps_N.size)
    errors = []
    for said_N in table.said_SN:
        speaks = weight_N * (said_N != _SILENT)
        wrong = 1 - belief_NU[rows, np.maximum(said_N, 0)]
        errors.append((speaks * wrong).sum() / speaks.sum() if speaks.sum() else np.nan)
    return _Fit(np.array(errors), parts_S3, belief_NU)


def _vote_shares(table: _Table) -> Floats:
    """To begin with: belief by votes, and a little everywhere."""
    places = np.arange(table.steps_N.max(initial=0) + 1)
    belief_NU = 0.1 * (places <= table.steps_N[:, None])
    for said_N in table.said_SN:
        belief_NU = belief_NU + (said_N[:, None] == places)
    shares: Floats = belief_NU / belief_NU.sum(1, keepdims=True)
    return shares


def _learn(table: _Table, weight_N: Floats, belief_NU: Floats) -> tuple[float, Floats]:
    """P(no error), and each source's parameters; one imagined count of each keeps them off 0."""
    none_N, rows = belief_NU[:, 0], np.arange(table.steps_N.size)
    parts = []
    for said_N in table.said_SN:
        weight = weight_N * (said_N != _SILENT)
        says_none = weight * (said_N == 0)
        hit = (weight * (said_N > 0) * belief_NU[rows, np.maximum(said_N, 0)]).sum()
        num_right, num_wrong = (weight * none_N).sum(), (weight * (1 - none_N)).sum()
        parts.append(
            (
                ((says_none * none_N).sum() + 1) / (num_right + 2),
                (hit + 1) / (num_wrong + 3),
                ((says_none * (1 - none_N)).sum() + 1) / (num_wrong + 3),
            )
        )
    none = ((weight_N * none_N).sum() + 1) / (weight_N.sum() + 2)
    return float(none), np.array(parts)


def _believe(table: _Table, none: float, parts_S3: Floats) -> Floats:
    """P(truth) of each pattern [N, U]."""
    steps_N1 = table.steps_N[:, None].astype(np.float64)
    places = np.arange(table.steps_N.max(initial=0) + 1)
    exists = (places <= table.steps_N[:, None]) & ((places == 0) | (steps_N1 > 0))
    prior = np.where(places == 0, none, (1 - none) / np.maximum(steps_N1, 1))
    log_NU = np.where(exists, np.log(prior), -np.inf)
    for said_N, (right, hit, miss) in zip(table.said_SN, parts_S3, strict=True):
        said_N1 = said_N[:, None]
        alarm = np.where(said_N1 == 0, right, (1 - right) / np.maximum(steps_N1, 1))
        other = (1 - hit - miss) / np.maximum(steps_N1 - 1, 1)
        told = np.where(said_N1 == 0, miss, np.where(said_N1 == places, hit, other))
        chance = np.where(places == 0, alarm, told)
        log_NU = log_NU + np.where(said_N1 == _SILENT, 0.0, np.log(chance))
    belief = np.exp(log_NU - log_NU.max(1, keepdims=True))
    shares: Floats = belief / belief.sum(1, keepdims=True)
    return shares
