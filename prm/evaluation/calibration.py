"""Do scores mean what they say? Reliability bins, expected calibration error, Brier score.

The truth of a step is a count: ``successes`` of ``trials`` (rollouts that reached the answer; or
1 or 0 of 1 where the truth is exact). Each step weighs 1, whatever its trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prm.errors import ConfigError, EncodingError

Binning = Literal["mass", "width"]
_Floats = NDArray[np.float64]


class Bin(NamedTuple):
    """The steps whose score lies in one bin; ``low`` and ``high`` are scores that occur in it."""

    low: float
    high: float
    num_steps: int
    mean_score: float
    success_rate: float


def reliability(
    scores: Sequence[float],
    successes: Sequence[int],
    trials: Sequence[int],
    *,
    num_bins: int = 10,
    binning: Binning = "mass",
) -> list[Bin]:
    """The non-empty bins, by rising score.

    ``mass``: as equal in steps as ties allow (equal scores share a bin, so there may be fewer
    bins); ``width``: equal parts of [0, 1].

    Raises:
        ConfigError: lengths differ, no steps, num_bins < 1, or an unknown binning.
        EncodingError: a score outside [0, 1] or NaN, or counts that are no share (0 trials:
            mask such steps before).
    """
    values, rates = _checked(scores, successes, trials)
    if num_bins < 1 or binning not in ("mass", "width"):
        raise ConfigError(f"num_bins {num_bins} with binning {binning!r}: >= 1, mass or width")
    cuts = np.arange(1, num_bins) / num_bins
    if binning == "mass":
        ranks = np.ceil(np.arange(1, num_bins) * values.size / num_bins).astype(int)
        cuts = np.sort(values)[np.minimum(ranks, values.size - 1)]
    index = np.searchsorted(cuts, values, side="right")
    return [_bin(values[index == i], rates[index == i]) for i in np.unique(index)]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean over steps of |mean score - success rate| of the step's bin."""
    total = sum(part.num_steps for part in bins)
    if not total:
        raise ConfigError("no bins: there is nothing to be calibrated")
    gaps = (part.num_steps * abs(part.mean_score - part.success_rate) for part in bins)
    return sum(gaps) / total


def brier_score(scores: Sequence[float], successes: Sequence[int], trials: Sequence[int]) -> float:
    """The mean squared distance of a step's score from the outcome (1 or 0) of each trial.

    With rate r this is (score - r)^2 + r (1 - r) for a step: the second term is the noise of the
    trials, the same for every scorer. Raises as `reliability` does.
    """
    values, rates = _checked(scores, successes, trials)
    return float(np.mean((values - rates) ** 2 + rates * (1 - rates)))


def _bin(values: _Floats, rates: _Floats) -> Bin:
    return Bin(
        low=float(values.min()),
        high=float(values.max()),
        num_steps=values.size,
        mean_score=float(values.mean()),
        success_rate=float(rates.mean()),
    )


def _checked(
    scores: Sequence[float], successes: Sequence[int], trials: Sequence[int]
) -> tuple[_Floats, _Floats]:
    """The scores and the success rates as arrays."""
    values = np.asarray(scores, dtype=np.float64)
    won = np.asarray(successes, dtype=np.float64)
    tried = np.asarray(trials, dtype=np.float64)
    if not values.size or not values.shape == won.shape == tried.shape:
        raise ConfigError(
            f"{values.size} scores, {won.size} successes, {tried.size} trials: "
            "one of each for each step, and one step at least"
        )
    # Written so that NaN, which compares with nothing, is refused too.
    bad = ~((values >= 0) & (values <= 1) & (won >= 0) & (won <= tried) & (tried > 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise EncodingError(
            f"step {i}: score {values[i]} with {won[i]:g} successes of {tried[i]:g} trials; "
            "expected a score in [0, 1] and 0 <= successes <= trials, trials > 0"
        )
    return values, won / tried
