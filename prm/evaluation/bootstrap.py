"""Intervals: a percentile bootstrap over problems, and Wilson's for one share.

Values of one problem belong together: solutions, steps and methods of a problem are drawn
together or not at all. A difference of two methods is called one only when the interval of
their paired difference excludes zero.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prm.errors import ConfigError

G = TypeVar("G")

# Draws held at once: 8 bytes each.
_MAX_DRAWS = 4_000_000


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: for a difference, whether it may be called one."""
        return self.low > 0 or self.high < 0


class StatisticInterval(NamedTuple):
    """A statistic of all groups and the ends of its interval.

    ``num_undefined`` resamples had no value (such as an AUC of one class) and are not in it.
    """

    value: float
    low: float
    high: float
    num_undefined: int


def interval(
    values: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of one value a problem, with its percentile bootstrap interval.

    ``clusters`` names each value's problem where a problem has several values: then problems are
    drawn, and the mean is still over values. The same seed gives the same interval.

    Raises:
        ConfigError: no values, NaN, not one cluster a value, or a bad level or num_resamples.
    """
    sums, counts = _by_cluster(_values(values), clusters)
    _check(num_resamples, level)
    means = [(drawn @ sums) / (drawn @ counts) for drawn in _draws(len(sums), num_resamples, seed)]
    low, high = _percentiles(np.concatenate(means), level)
    return Interval(float(sums.sum() / counts.sum()), low, high)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of a - b, where ``a[i]`` and ``b[i]`` are two methods on the same problem.

    Raises as `interval` does, and ConfigError when the lengths differ.
    """
    first, second = _values(a), _values(b)
    if first.size != second.size:
        raise ConfigError(f"{first.size} values against {second.size}: they are not paired")
    return interval(
        first - second,
        clusters=clusters,
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    )


def bootstrap_statistic(
    groups: Sequence[G],
    statistic: Callable[[list[G]], float | None],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> StatisticInterval:
    """A statistic that is no mean, such as an AUC or F1, with its interval over problems.

    ``groups`` holds what the statistic needs of each problem; it is called on lists of groups,
    where a group may occur several times, and returns None where it is undefined.

    Raises:
        ConfigError: no groups, a bad level or num_resamples, or the statistic is undefined on
            all groups or in more than half of the resamples.
    """
    _check(num_resamples, level)
    value = statistic(list(groups)) if groups else None
    if value is None:
        raise ConfigError(f"the statistic is undefined on the {len(groups)} groups themselves")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num_resamples):
        drawn = rng.integers(0, len(groups), len(groups))
        found.append(statistic([groups[i] for i in drawn]))
    defined = np.array([x for x in found if x is not None], dtype=np.float64)
    num_undefined = num_resamples - defined.size
    if num_undefined > num_resamples / 2:
        raise ConfigError(f"the statistic is undefined in {num_undefined} of {num_resamples} draws")
    low, high = _percentiles(defined, level)
    return StatisticInterval(float(value), low, high, num_undefined)


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for one share of independent trials (E. B. Wilson 1927).

    Raises:
        ConfigError: no trials, or successes outside 0..trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ConfigError(f"{successes} successes of {trials} trials are no share")
    _check(1, level)
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the ends the formula gives exactly 0 and 1; rounding may pass them.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(share, low, high)


def _draws(num: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each of ``num`` clusters is drawn: blocks of shape [resamples, num]."""
    rng = np.random.default_rng(seed)
    block = max(1, _MAX_DRAWS // num)
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        yield rng.multinomial(num, np.full(num, 1 / num), size=rows).astype(np.float64)


def _by_cluster(
    values: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum of the values and their number, for each cluster."""
    if clusters is None:
        return values, np.ones_like(values)
    if len(clusters) != values.size:
        raise ConfigError(f"{len(clusters)} clusters for {values.size} values")
    number: dict[Hashable, int] = {}
    index = [number.setdefault(cluster, len(number)) for cluster in clusters]
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or np.isnan(array).any():
        raise ConfigError(
            f"values of shape {array.shape}, {int(np.isnan(array).sum())} of them NaN: "
            "expected one number a problem, one at least"
        )
    return array


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(num_resamples: int, level: float) -> None:
    if num_resamples < 1 or not 0 < level < 1:
        raise ConfigError(f"num_resamples {num_resamples}, level {level}: >= 1, between 0 and 1")
