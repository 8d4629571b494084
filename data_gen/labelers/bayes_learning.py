"""Empirical Bayes: what a pool of solutions says of the chain's parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from data_gen.labelers.bayes_model import LEVELS, RATES, Array, Hyper
from data_gen.labelers.bayes_posterior import (
    Emissions,
    Evidence,
    Messages,
    Reader,
    emissions,
    log_likelihood,
    posterior,
    roots,
)

# Values that are tried, one step up or down at a time, by the likelihood of the pool.
GRIDS: dict[str, tuple[float, ...]] = {
    "unevenness": (0.25, 0.4, 0.7, 1.2, 2.0, 4.0),
    "tilt": (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0),
    "excess": (0.7, 1.0, 1.25, 1.6),
    "fade": (0.0, 0.3, 0.7, 1.3, 2.0),
    "dips": (0.02, 0.06, 0.12, 0.2, 0.3, 0.4),
    "dip_level": (0.03, 0.07, 0.15, 0.3, 0.5),
}
_MIN_GAIN = 4.0
"""Nats that a change must gain: the pool must say so, not chance (a parameter more is worth half of
log n, 3 nats for 400 solutions, in the Bayesian information criterion)."""
_RECOVERIES = (0.35, 0.7)
_ROOT_WEIGHT = 3.0
"""Pseudo-problems of the root prior."""
_RECOVERY_WEIGHT = 3.0
"""Pseudo-solutions with an error of the recovery prior."""


def learn(
    hyper: Hyper, evidence: Evidence, sample: Array, *, rounds: int = 3, search: bool = True
) -> Hyper:
    """Better parameters: the priors by EM over all the evidence, the others on a sample of it."""
    for _ in range(rounds):
        hyper = _maximise(hyper, evidence)
    if search:
        part = evidence.rows(sample)
        hyper = _restarted(hyper, part)
        for name in GRIDS:
            hyper = _step(hyper, name, part)
    return hyper


def _restarted(hyper: Hyper, evidence: Evidence) -> Hyper:
    """From other recovery rates, if EM ends in a likelier place there.

    Many right answers are said by a high success rate or by many repairs; EM stays with the one
    that it began with.
    """
    best, best_score = hyper, score(hyper, evidence) + _MIN_GAIN
    for mean in _RECOVERIES:
        prior = 0.01 + RATES ** (4.0 * mean) * (1.0 - RATES) ** (4.0 * (1.0 - mean))
        other = dataclasses.replace(hyper, recovery=tuple(float(x) for x in prior / prior.sum()))
        for _ in range(4):
            other = _maximise(other, evidence)
        if (value := score(other, evidence)) > best_score:
            best, best_score = other, value
    return best


def score(hyper: Hyper, evidence: Evidence) -> float:
    """Log-likelihood of the evidence."""
    said = _messages(hyper, evidence)[2]
    return log_likelihood(evidence.groups, said.root, hyper.root_prior)


def _messages(hyper: Hyper, evidence: Evidence) -> tuple[Reader, Emissions, Messages]:
    reader = Reader(hyper, [int(n) for n in np.unique(evidence.lengths)])
    emit = emissions(evidence, hyper, 0)
    return reader, emit, reader.messages(evidence, emit)


def _maximise(hyper: Hyper, evidence: Evidence) -> Hyper:
    """One EM step for the priors of V_0 and of the recovery rate."""
    reader, emit, said = _messages(hyper, evidence)
    log = evidence.groups.by_problem(said.root) + np.log(hyper.root_prior)
    belief = np.exp(log - log.max(1, keepdims=True))
    belief /= belief.sum(1, keepdims=True)
    root = belief.sum(0) + _ROOT_WEIGHT / len(LEVELS)
    own = roots(evidence.groups, said.root, hyper.root_prior)
    post = posterior(reader, evidence, own, said, emit).first_error
    counts = np.zeros(len(RATES))
    for p in range(evidence.longest - 1):
        start = reader.chain.start[evidence.verdicts, 0] * said.bad[:, p + 1]
        start /= np.maximum(start.sum(1, keepdims=True), 1e-300)
        counts += (post[:, p, None] * start).sum(0)
    recovery = counts + _RECOVERY_WEIGHT * Hyper().recovery_prior
    return dataclasses.replace(
        hyper,
        root=tuple(float(x) for x in root / root.sum()),
        recovery=tuple(float(x) for x in recovery / recovery.sum()),
    )


def _step(hyper: Hyper, name: str, evidence: Evidence) -> Hyper:
    """The next value up or down, if the pool is clearly likelier with it."""
    grid = GRIDS[name]
    at = grid.index(getattr(hyper, name))
    change: dict[str, Any]
    best, best_score = hyper, score(hyper, evidence) + _MIN_GAIN
    for to in (at - 1, at + 1):
        if 0 <= to < len(grid):
            change = {name: grid[to]}
            other = dataclasses.replace(hyper, **change)
            if (value := score(other, evidence)) > best_score:
                best, best_score = other, value
    return best
