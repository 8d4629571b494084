"""The chain behind a solution's rollouts, as the Bayesian labeler sees it.

After ``t`` of ``T`` steps a prefix is *good* with a success level V_t, or *bad* (a step was
wrong) with a recovery rate b. Both live on grids.

    good    V_0 is shared by the solutions of a problem. A step takes a share f of the risk that
            is left, V_{t+1} = V_t^(1-f), f ~ Beta(c, c * weight of the later steps); it is the
            first wrong one with probability 1 - V_t / V_{t+1} (times ``excess``). V_T = 1.
    bad     b is drawn when the error happens; the solution then ends right with probability b
            (an error in the last step: hardly ever). On the way to a wrong answer it fades as the
            steps run out, b ((r-1)/r)^fade with r steps left, on the way to a right one it rises.
    rollout success with the prefix's level or rate; a good prefix is with probability ``dips``
            hard to go on from, and then its level is about ``dip_level`` times as high.

The levels before an error make the jump of the success rate, and its place, tell of each other:
that is why one reading of all counts beats a threshold at each prefix. The change-point view is
that of noisy search with unknown coins (Karp and Kleinberg 2007).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json

import numpy as np

Array = np.ndarray

LEVELS = np.exp(-np.exp(np.linspace(-5.0, 1.45, 16)))
"""Success levels of good prefixes: even steps of log(-log V), from 0.993 down to 0.014."""
RATES = np.array([0.004, 0.012, 0.03, 0.07, 0.14, 0.25, 0.4, 0.6, 0.85])
"""Success rates of bad prefixes; the lowest is the noise of a checker."""
CELL = np.array([-1.0, 0.0, 1.0]) / 3.0
"""Places in the cell of a grid point, in its spacings: many counts would else tell good from bad by
which grid happens to have a point nearby."""
DIP_DEPTHS = (0.62, 1.0, 1.5)
"""Dips are not all of one depth: equal shares at these times ``dip_level``. With one depth alone
many counts of a dip say that it is none, and so that it is an error."""
SLIP = 0.004
"""Chance that a step goes wrong which no rollout would."""
VERDICT_NOISE = 0.005
LAST_STEP_RIGHT = 0.01
"""Chance of a right answer when the last step is the first wrong one."""
WRONG, RIGHT, UNKNOWN = 0, 1, 2


def level_cells() -> Array:
    """(levels, places): success levels across the cell of each grid point."""
    x = np.log(-np.log(LEVELS))
    return np.asarray(np.exp(-np.exp(x[:, None] + CELL * (x[1] - x[0]))))


def rate_cells() -> Array:
    """(rates, places): the same for bad prefixes; the lowest stays as it is."""
    x = np.log(RATES / (1.0 - RATES))
    spots = np.maximum(np.arange(len(x))[:, None] + CELL, 0.0)
    spots[0] = 0.0
    inner = np.interp(np.minimum(spots, len(x) - 1.0), np.arange(len(x)), x)
    return np.asarray(1.0 / (1.0 + np.exp(-inner)))


_NODES = np.linspace(-13.0, 7.0, 61)
_STRAY = 0.03
"""Chance that a rate jumps anywhere in one step."""


@dataclasses.dataclass(frozen=True)
class Hyper:
    """What is learned over a pool; all of it enters every label's reading."""

    root: tuple[float, ...] = ()
    """Prior of V_0 over `LEVELS`; empty = even."""
    recovery: tuple[float, ...] = ()
    """Prior of the rate at the error over `RATES`; empty = mostly low."""
    unevenness: float = 0.7
    """c: small = a few steps carry the risk."""
    tilt: float = 0.0
    """Weight of a step in the risk ~ exp(tilt * t / T): negative = early errors."""
    excess: float = 1.0
    """Errors a unit of lost success: above 1 where many errors are repaired."""
    fade: float = 0.7
    dips: float = 0.02
    dip_level: float = 0.15

    @property
    def root_prior(self) -> Array:
        """Shape (levels,), sums to 1."""
        return _normal(np.array(self.root or np.ones(len(LEVELS))))

    @property
    def recovery_prior(self) -> Array:
        """Shape (rates,), sums to 1."""
        return _normal(np.array(self.recovery or 0.03 + np.exp(-RATES / 0.12)))

    @property
    def name(self) -> str:
        """A short name of these very values."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return "bayes/2:" + hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Transition matrices for all (number of steps, steps left) of a pool.

    ``go[i]`` (levels x levels): to the next step without an error; ``err[i]`` (levels): an error.
    Row 0 is the identity without errors: before a solution begins.
    ``bad[verdict][r]`` (rates x rates): with r steps left before the step.
    ``start[verdict][last]`` (rates): a new error's rate, and that the verdict follows; ``last``
    is 1 where the last step is the wrong one.
    """

    go: Array
    err: Array
    bad: Array
    start: Array
    none: Array
    """P(verdict | no error), by verdict."""


def chain_of(hyper: Hyper, pairs: tuple[tuple[int, int], ...]) -> Chain:
    """The matrices for the (T, r) ``pairs``; row i + 1 of go and err belongs to pairs[i]."""
    count = len(LEVELS)
    go, err = np.zeros((len(pairs) + 1, count, count)), np.zeros((len(pairs) + 1, count))
    go[0] = np.eye(count)
    for row, (length, left) in enumerate(pairs, 1):
        key = hyper.unevenness, hyper.tilt, hyper.excess
        go[row], err[row] = _good_step(*key, length, left)
    longest = max((left for _, left in pairs), default=1)
    noise = VERDICT_NOISE
    return Chain(
        go=go,
        err=err,
        bad=_bad_steps(hyper.fade, longest),
        start=_starts(hyper.recovery_prior),
        none=np.array([noise, 1.0 - noise, 1.0]),
    )


@functools.lru_cache(maxsize=20_000)
def _good_step(
    unevenness: float, tilt: float, excess: float, length: int, left: int
) -> tuple[Array, Array]:
    """One step of the good chain, with ``left`` steps to go before it."""
    x = np.log(-np.log(LEVELS))
    if left == 1:
        risk = np.minimum(0.98, excess * (1.0 - LEVELS) + SLIP)
        go = np.zeros((len(x), len(x)))
        go[:, 0] = 1.0 - risk
        return go, risk
    share, weight = _shares(unevenness, tilt, length, left)
    risk = np.minimum(0.98, excess * (1.0 - LEVELS[:, None] ** share) + SLIP)
    spots = (x[:, None] + np.log1p(-share) - x[0]) / (x[1] - x[0])
    spots = np.clip(spots, 0.0, len(x) - 1.0)
    low = np.minimum(spots.astype(int), len(x) - 2)
    part = spots - low
    go = np.zeros((len(x), len(x)))
    rows = np.broadcast_to(np.arange(len(x))[:, None], low.shape)
    np.add.at(go, (rows, low), weight * (1.0 - risk) * (1.0 - part))
    np.add.at(go, (rows, low + 1), weight * (1.0 - risk) * part)
    return go, (weight * risk).sum(1)


def _shares(unevenness: float, tilt: float, length: int, left: int) -> tuple[Array, Array]:
    """Nodes and weights of f ~ Beta(c, c * later), later = the later steps' weight."""
    later = np.exp(tilt * np.arange(1, left) / length).sum()
    share = 1.0 / (1.0 + np.exp(-_NODES))
    log = unevenness * np.log(share) + unevenness * later * np.log1p(-share)
    return share, _normal(np.exp(log - log.max()))


@functools.lru_cache(maxsize=64)
def _bad_steps(fade: float, longest: int) -> Array:
    """Shape (verdicts, longest + 1, rates, rates)."""
    steps = np.zeros((3, longest + 1, len(RATES), len(RATES)))
    steps[:, 0] = np.eye(len(RATES))
    for left in range(1, longest + 1):
        keep = ((left - 1) / left) ** fade if left > 1 else 0.0
        steps[WRONG, left] = _moved(RATES * keep)
        steps[RIGHT, left] = _moved(1.0 - (1.0 - RATES) * keep)
        steps[UNKNOWN, left] = 0.5 * np.eye(len(RATES)) + 0.5 * steps[WRONG, left]
    return steps


def _moved(rates: Array) -> Array:
    """Each rate moves to a new one between grid points, in logits, and now and then anywhere."""
    grid = np.log(RATES / (1.0 - RATES))
    safe = np.clip(rates, RATES[0], RATES[-1])
    spots = np.interp(np.log(safe / (1.0 - safe)), grid, np.arange(len(grid)))
    low = np.minimum(spots.astype(int), len(grid) - 2)
    part = spots - low
    move = np.zeros((len(grid), len(grid)))
    rows = np.arange(len(grid))
    move[rows, low] += 1.0 - part
    move[rows, low + 1] += part
    return (1.0 - _STRAY) * move + _STRAY / len(grid)


def _starts(prior: Array) -> Array:
    """Shape (verdicts, 2, rates)."""
    last = LAST_STEP_RIGHT
    return np.array(
        [
            [prior * (1.0 - RATES), prior * (1.0 - last)],
            [prior * RATES, prior * last],
            [prior, prior],
        ]
    )


def _normal(weights: Array) -> Array:
    return np.asarray(weights / weights.sum())
