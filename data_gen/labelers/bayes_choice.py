"""Where the next rollout tells most of the first error, for each token."""

from __future__ import annotations

import functools
import math

import numpy as np

from data_gen.labelers.bayes_model import Array
from data_gen.labelers.bayes_posterior import Posterior

AHEAD = 8
"""Rollouts that are looked ahead: the first few of a prefix tell mostly its level, and little yet
of the error."""
OVERHEAD = 8
"""Tokens that a rollout costs beside those it generates."""


def gains(post: Posterior) -> Array:
    """(B, P + 1): nats a rollout tells of the first error, one alone or the mean of `AHEAD`."""
    belief = post.first_error[:, None, :, None]
    many = _information(belief, post.outcomes) / AHEAD
    one = _information(belief, post.outcomes @ _thinned(AHEAD, 1))
    return np.asarray(np.maximum(one, many))


def values(post: Posterior) -> Array:
    """(B, P + 1): by how much a rollout is expected to raise the chance that the label is right.

    The information, times the chance of an error for each nat that is still open: a nat is worth
    most where two places are left and one of them is right, and little where a long tail is. Or,
    where that is more, what `AHEAD` rollouts of the column would raise it by at once.
    """
    belief = post.first_error
    doubt = -(belief * np.log(np.maximum(belief, 1e-30))).sum(1)
    rate = (1.0 - belief.max(1)) / np.maximum(doubt, 1e-12)
    best = (belief[:, None, :, None] * post.outcomes).max(2).sum(2) - belief.max(1)[:, None]
    return np.asarray(np.maximum(gains(post) * rate[:, None], best / AHEAD))


def success_rates(post: Posterior) -> Array:
    """(B, P + 1): P(the next rollout from the column succeeds)."""
    ahead = post.outcomes.shape[-1] - 1
    each = post.outcomes @ (np.arange(ahead + 1) / ahead)
    return np.asarray((each * post.first_error[:, None]).sum(2))


def _information(belief: Array, outcomes: Array) -> Array:
    """Mutual information of the outcome and the place; shapes (B, 1, U, 1) and (B, P, U, n)."""
    joint = belief * outcomes
    mixed = joint.sum(2)
    inner = (joint * np.log(np.maximum(outcomes, 1e-30))).sum((2, 3))
    outer = (mixed * np.log(np.maximum(mixed, 1e-30))).sum(2)
    return np.asarray(inner - outer)


@functools.cache
def _thinned(many: int, few: int) -> Array:
    """(many + 1, few + 1): P(j of few succeed | s of many do), the few drawn from the many."""
    table = np.zeros((many + 1, few + 1))
    for s in range(many + 1):
        for j in range(max(0, few - many + s), min(few, s) + 1):
            table[s, j] = math.comb(s, j) * math.comb(many - s, few - j) / math.comb(many, few)
    return table
