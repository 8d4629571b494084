"""The posterior over the first error of many solutions at once.

Arrays are aligned at the end: column p of P + 1 stands for ``r = P - p`` steps left, so that a
solution of T steps begins in column P - T. Shape suffixes: B solutions, P the longest number of
steps, V levels, Q rates, U = P + 1 places of the first error (a column's step, or none, last).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from data_gen.labelers.bayes_model import (
    DIP_DEPTHS,
    LEVELS,
    RATES,
    RIGHT,
    UNKNOWN,
    WRONG,
    Array,
    Chain,
    Hyper,
    chain_of,
    level_cells,
    rate_cells,
)


class Groups:
    """Solutions by problem, and within it by their first step (its head).

    Solutions of one head share rollouts and each other's verdicts, so together they count as one
    voice about V_0: the mean of their log messages.
    """

    def __init__(self, problems: Array, heads: Array) -> None:
        """Two arrays (B,) of any numbers; a head belongs to one problem."""
        self.problems = problems
        self.heads = heads
        self._problem = np.unique(problems, return_inverse=True)[1]
        self._head = np.unique(heads, return_inverse=True)[1]
        first = np.unique(heads, return_index=True)[1]
        self._problem_of_head = self._problem[first]
        self._size = np.bincount(self._head)[:, None]

    def _voices(self, said: Array) -> tuple[Array, Array]:
        """(heads, V) and (problems, V)."""
        heads = np.zeros((len(self._size), said.shape[1]))
        np.add.at(heads, self._head, said)
        heads /= self._size
        total = np.zeros((self._problem_of_head.max() + 1, said.shape[1]))
        np.add.at(total, self._problem_of_head, heads)
        return heads, total

    def by_problem(self, said: Array) -> Array:
        """(problems, V): the voices of all heads together."""
        return self._voices(said)[1]

    def of_others(self, said: Array) -> Array:
        """(B, V): the voices of the other heads of each solution's problem."""
        heads, total = self._voices(said)
        return np.asarray(total[self._problem] - heads[self._head])


@dataclasses.dataclass
class Evidence:
    """What is known of a pool of B solutions; grows as rollouts come in."""

    lengths: Array
    """(B,) number of steps."""
    verdicts: Array
    """(B,) WRONG, RIGHT or UNKNOWN."""
    groups: Groups
    """Which solutions share a problem, and which a first step."""
    won: Array
    """(B, P + 1) successes by column."""
    lost: Array
    """(B, P + 1) failures by column."""
    opinion: Array
    """(B, P + 1) likelihood of other sources, by the place of the first error."""

    @property
    def longest(self) -> int:
        """P."""
        return int(self.won.shape[1]) - 1

    def rows(self, index: Array) -> Evidence:
        """The same for some of the solutions; columns that none of them has are cut off."""
        first = self.longest - int(self.lengths[index].max())
        return Evidence(
            self.lengths[index],
            self.verdicts[index],
            Groups(self.groups.problems[index], self.groups.heads[index]),
            self.won[index, first:],
            self.lost[index, first:],
            self.opinion[index, first:],
        )


@dataclasses.dataclass(frozen=True)
class Messages:
    """What each solution says of its problem's V_0, and of the rates of errors."""

    root: Array
    """(B, V) log P(all evidence | V_0)."""
    good: Array
    """(B, P + 1, V) P(evidence from column p on | good with V there), scaled by column."""
    bad: Array
    """(B, P + 1, Q) the same for a bad prefix."""
    begun: Array
    """(B, P + 1) P(evidence from the error on | error in the step into column p)."""
    scale: Array
    """(B, P + 1) log of what the columns from p on were divided by."""


@dataclasses.dataclass(frozen=True)
class Emissions:
    """Likelihoods of the counts, and of them together with s successes of n more rollouts."""

    good: Array
    """(B, P + 1, V)"""
    bad: Array
    """(B, P + 1, Q)"""
    good_more: Array
    """(B, P + 1, V, n + 1)"""
    bad_more: Array
    """(B, P + 1, Q, n + 1)"""

    @property
    def ahead(self) -> int:
        """How many more rollouts are foretold."""
        return int(self.good_more.shape[-1]) - 1


def emissions(evidence: Evidence, hyper: Hyper, ahead: int) -> Emissions:
    """For the counts of each column; ``ahead`` is n, 0 where nothing will be asked."""
    # (states, parts): a state is a mixture of success rates with weights of its own.
    cells = level_cells()
    dipped = [np.maximum(cells * hyper.dip_level * depth, RATES[0]) for depth in DIP_DEPTHS]
    good = np.concatenate([cells, *dipped], 1)
    plain, deep = cells.shape[1], good.shape[1] - cells.shape[1]
    weights = np.array([(1.0 - hyper.dips) / plain] * plain + [hyper.dips / deep] * deep)
    bad = rate_cells()
    rates = np.concatenate([good.ravel(), bad.ravel()])
    log = evidence.won[..., None] * np.log(rates) + evidence.lost[..., None] * np.log1p(-rates)
    # One scale for a column, good and bad alike: only ratios count.
    likely = np.exp(log - log.max(-1, keepdims=True))
    shape = log.shape[:2]
    of_good = likely[..., : good.size].reshape(*shape, *good.shape) * weights
    of_bad = likely[..., good.size :].reshape(*shape, *bad.shape) / bad.shape[1]
    return Emissions(
        of_good.sum(-1),
        of_bad.sum(-1),
        np.einsum("bpvk,vks->bpvs", of_good, binomial(good, ahead), optimize=True),
        np.einsum("bpqk,qks->bpqs", of_bad, binomial(bad, ahead), optimize=True),
    )


@functools.cache
def _choose(n: int) -> Array:
    return np.array([float(math.comb(n, s)) for s in range(n + 1)])


def binomial(rates: Array, n: int) -> Array:
    """P(s successes of n) for every rate: the shape of ``rates``, then n + 1."""
    s, rates = np.arange(n + 1), rates[..., None]
    return np.asarray(_choose(n) * rates**s * (1.0 - rates) ** (n - s))


class Reader:
    """Reads evidence with given hyper-parameters; one for all solutions of a pool."""

    def __init__(self, hyper: Hyper, lengths: Sequence[int]) -> None:
        """``lengths``: numbers of steps that will occur."""
        self.hyper = hyper
        # Without a tilt a step's matrix depends on the steps left alone.
        kinds = sorted(set(lengths)) if hyper.tilt else [max(lengths)]
        pairs = tuple((length, left) for length in kinds for left in range(1, length + 1))
        self.chain: Chain = chain_of(hyper, pairs)
        self._row = {pair: i for i, pair in enumerate(pairs, 1)}
        self._kinds = kinds

    def rows(self, lengths: Array, left: int) -> Array:
        """(B,) row of the transition with ``left`` steps to go; 0 before a solution begins."""
        table = np.zeros(max(self._kinds) + 1, int)
        for length in range(left, len(table)):
            table[length] = self._row.get((length if self.hyper.tilt else self._kinds[-1], left), 0)
        return np.asarray(table[lengths])

    def ahead(self, states: Array, rows: Array, left: int) -> Array:
        """(B, ..., V): P(what follows | level now), from P(what follows | next level)."""
        if not self.hyper.tilt:
            moved = states @ self.chain.go[self._row[self._kinds[-1], left]].T
            return np.where(_like(rows, states) > 0, moved, states)
        go = self.chain.go[rows].transpose(0, 2, 1)
        return np.asarray(np.matmul(states if states.ndim == 3 else states[:, None], go)).reshape(
            states.shape
        )

    def onward(self, states: Array, rows: Array, left: int) -> Array:
        """(B, V): the levels after a step without an error."""
        if not self.hyper.tilt:
            moved = states @ self.chain.go[self._row[self._kinds[-1], left]]
            return np.where(rows[:, None] > 0, moved, states)
        return np.asarray(np.matmul(states[:, None], self.chain.go[rows])[:, 0])

    def messages(self, evidence: Evidence, emit: Emissions) -> Messages:
        """Backward through the columns, scaled so that nothing underflows."""
        longest, verdicts, chain = evidence.longest, evidence.verdicts, self.chain
        count = len(verdicts)
        good = np.zeros((count, longest + 1, len(LEVELS)))
        bad = np.ones((count, longest + 1, len(RATES)))
        begun = np.zeros((count, longest + 1))
        scales = np.zeros((count, longest + 1))
        good[:, longest] = (chain.none[verdicts] * evidence.opinion[:, -1])[:, None]
        for p in range(longest - 1, -1, -1):
            left = longest - p
            rows = self.rows(evidence.lengths, left)
            start = chain.start[verdicts, int(left == 1)]
            begun[:, p + 1] = (start * bad[:, p + 1]).sum(1) * evidence.opinion[:, p]
            follows = self.ahead(good[:, p + 1], rows, left)
            good[:, p] = emit.good[:, p] * (follows + chain.err[rows] * begun[:, p + 1, None])
            bad[:, p] = emit.bad[:, p] * self.behind(verdicts, left, bad[:, p + 1])
            scale = np.maximum(np.maximum(good[:, p].max(1), bad[:, p].max(1)), 1e-300)
            good[:, p] /= scale[:, None]
            bad[:, p] /= scale[:, None]
            scales[:, p] = scales[:, p + 1] + np.log(scale)
        root = np.log(good[:, 0] + 1e-300) + scales[:, 0, None]
        return Messages(root, good, bad, begun, scales)

    def behind(self, verdicts: Array, left: int, following: Array) -> Array:
        """(B, Q): P(what follows | bad with the rate now)."""
        out = np.empty_like(following)
        for verdict in (WRONG, RIGHT, UNKNOWN):
            mine = verdicts == verdict
            out[mine] = following[mine] @ self.chain.bad[verdict, left].T
        return out


def _like(rows: Array, states: Array) -> Array:
    return rows.reshape(-1, *[1] * (states.ndim - 1))


def roots(groups: Groups, said: Array, prior: Array) -> Array:
    """(B, V): each solution's prior of V_0, from what the other groups of its problem say."""
    log = groups.of_others(said) + np.log(prior)
    weights = np.exp(log - log.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def log_likelihood(groups: Groups, said: Array, prior: Array) -> float:
    """Of all the evidence, the V_0 of each problem summed out."""
    log = groups.by_problem(said) + np.log(prior)
    top = log.max(1, keepdims=True)
    return float((np.log(np.exp(log - top).sum(1)) + top[:, 0]).sum())


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Of B solutions, aligned at the end like the evidence."""

    first_error: Array
    """(B, P + 1): P(the first error is the step out of column p); last: no error."""
    outcomes: Array
    """(B, P + 1, P + 1, n + 1): P(s of the next n rollouts from column p succeed | first error)."""


def posterior(
    reader: Reader,
    evidence: Evidence,
    root: Array,
    said: Messages,
    emit: Emissions,
) -> Posterior:
    """Forward and backward; ``root`` (B, V) is each solution's prior of V_0.

    Where the emissions look ahead, the outcomes of more rollouts are foretold: most of the work.
    """
    forward, joint = _forward(reader, evidence, root, emit, said)
    width = evidence.longest + 1
    outcomes = np.zeros((len(root), width, width, emit.ahead + 1))
    if emit.ahead:
        _good_side(reader, evidence, forward, emit, outcomes)
        _bad_side(reader, evidence, emit, said, outcomes)
    return Posterior(joint / joint.sum(1, keepdims=True), outcomes)


def _forward(
    reader: Reader, evidence: Evidence, root: Array, emit: Emissions, said: Messages
) -> tuple[Array, Array]:
    """P(evidence before column p, good, V there), scaled, and P(all evidence, first error)."""
    count, longest = len(root), evidence.longest
    forward = np.zeros((count, longest + 1, len(LEVELS)))
    joint = np.zeros((count, longest + 1))
    forward[:, 0], scale = root, np.zeros(count)
    for p in range(longest):
        rows = reader.rows(evidence.lengths, longest - p)
        here = forward[:, p] * emit.good[:, p]
        factor = np.exp(scale + said.scale[:, p + 1] - said.scale[:, 0])
        joint[:, p] = (here * reader.chain.err[rows]).sum(1) * said.begun[:, p + 1] * factor
        step = reader.onward(here, rows, longest - p)
        top = np.maximum(step.max(1), 1e-300)
        forward[:, p + 1] = step / top[:, None]
        scale += np.log(top)
    end = np.exp(scale + said.scale[:, longest] - said.scale[:, 0])
    joint[:, longest] = (forward[:, longest] * said.good[:, longest]).sum(1) * end
    return forward, joint


def _good_side(
    reader: Reader, evidence: Evidence, forward: Array, emit: Emissions, out: Array
) -> None:
    """Prefixes before the error: backward from every place of the error."""
    count, longest = len(forward), evidence.longest
    after = np.ones((count, longest + 1, len(LEVELS)))
    for p in range(longest - 1, 0, -1):
        # Places of the error behind this column: its own step, later ones, none.
        rows = reader.rows(evidence.lengths, longest - p)
        later = after[:, p + 1 :]
        if p + 1 < longest:
            later = later * emit.good[:, p + 1, None]
        later = reader.ahead(later, rows, longest - p)
        after[:, p + 1 :] = later / np.maximum(later.max(2, keepdims=True), 1e-300)
        after[:, p] = reader.chain.err[rows]
        _normalised(after[:, p:], forward[:, p, :, None] * emit.good_more[:, p], out[:, p, p:])


def _bad_side(
    reader: Reader, evidence: Evidence, emit: Emissions, said: Messages, out: Array
) -> None:
    """Prefixes behind the error: forward from every place of the error."""
    longest, verdicts, chain = evidence.longest, evidence.verdicts, reader.chain
    rate = np.zeros((len(verdicts), longest, len(RATES)))
    for p in range(1, longest):
        left = longest - p
        rate[:, p - 1] = chain.start[verdicts, 0]
        follows = reader.behind(verdicts, left, said.bad[:, p + 1])
        _normalised(rate[:, :p], emit.bad_more[:, p] * follows[..., None], out[:, p, :p])
        for verdict in (WRONG, RIGHT, UNKNOWN):
            mine = np.flatnonzero(verdicts == verdict)
            moved = (rate[mine, :p] * emit.bad[mine, p, None]) @ chain.bad[verdict, left]
            rate[mine, :p] = moved / np.maximum(moved.max(2, keepdims=True), 1e-300)


def _normalised(states: Array, more: Array, out: Array) -> None:
    """(B, u, V) @ (B, V, n + 1) into (B, u, n + 1), each summing to 1."""
    joint = np.matmul(states, more)
    out[:] = joint / np.maximum(joint.sum(2, keepdims=True), 1e-300)
