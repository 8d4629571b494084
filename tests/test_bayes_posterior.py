"""The posterior and what it foretells, against a plain enumeration of every path of the chain."""

import dataclasses
import functools
import math

import numpy as np
import pytest

from data_gen.labelers.bayes_choice import AHEAD, gains, success_rates
from data_gen.labelers.bayes_model import LEVELS, RATES, RIGHT, UNKNOWN, WRONG, Hyper, chain_of
from data_gen.labelers.bayes_posterior import (
    Evidence,
    Groups,
    Reader,
    emissions,
    log_likelihood,
    posterior,
    roots,
)
from data_gen.labelers.bayes_reading import PoolReader, parts

HYPERS = {
    "plain": Hyper(),
    "no dips": Hyper(dips=0.0),
    "tilt": Hyper(tilt=-2.0, dips=0.2, unevenness=0.4),
    "all else": Hyper(
        root=tuple(np.linspace(1.0, 4.0, len(LEVELS))),
        recovery=tuple(np.linspace(5.0, 1.0, len(RATES))),
        tilt=4.0,
        excess=1.6,
        fade=1.3,
        dips=0.06,
    ),
}


EACH_LEVEL = np.eye(len(LEVELS))
some_hypers = pytest.mark.parametrize(
    "hyper", [HYPERS["plain"], HYPERS["all else"]], ids=["plain", "all else"]
)


@dataclasses.dataclass
class One:
    # By steps kept; the opinion by place of the first error, none last.
    verdict: int
    won: np.ndarray
    lost: np.ndarray
    opinion: np.ndarray

    @property
    def length(self):
        return len(self.won)

    def with_more(self, kept, successes, failures):
        won, lost = self.won.copy(), self.lost.copy()
        won[kept] += successes
        lost[kept] += failures
        return dataclasses.replace(self, won=won, lost=lost)


def one(length, verdict, seed=0, most=6):
    rng = np.random.default_rng((length, verdict, seed))
    return One(
        verdict,
        rng.integers(0, most, length),
        rng.integers(0, most, length),
        rng.uniform(0.1, 1.0, length + 1),
    )


@functools.cache
def chain_for(hyper, length):
    return chain_of(hyper, tuple((length, left) for left in range(1, length + 1)))


@functools.cache
def state_chances(hyper, won, lost):
    """P(these outcomes in this order | state), good and bad, as foretold where nothing is known."""
    nothing = as_evidence([One(WRONG, np.zeros(1), np.zeros(1), np.ones(2))])
    emit = emissions(nothing, hyper, won + lost)
    orders = math.comb(won + lost, won)
    return emit.good_more[0, 0, :, won] / orders, emit.bad_more[0, 0, :, won] / orders


def spread(paths, step):
    """Every path goes on to every next state."""
    return paths[..., None] * step


def enumerated(solution, hyper, root):
    """P(all evidence, first error there) for each place, none last: a sum over all paths."""
    # Row r of the matrices belongs to the step with r steps left before it.
    chain, length = chain_for(hyper, solution.length), solution.length

    def good(kept):
        return state_chances(hyper, int(solution.won[kept]), int(solution.lost[kept]))[0]

    def bad(kept):
        return state_chances(hyper, int(solution.won[kept]), int(solution.lost[kept]))[1]

    joint, levels = [], root * good(0)
    for place in range(length):
        left = length - place
        start = chain.start[solution.verdict, int(left == 1)]
        paths = spread(levels * chain.err[left], start)
        for kept in range(place + 1, length):
            paths = spread(paths * bad(kept), chain.bad[solution.verdict, length - kept])
        joint.append(paths.sum() * solution.opinion[place])
        levels = spread(levels, chain.go[left])
        if left > 1:
            levels = levels * good(place + 1)
    joint.append(levels.sum() * chain.none[solution.verdict] * solution.opinion[-1])
    return np.array(joint)


def as_evidence(solutions, problems=None):
    """The arrays of the labeler, aligned at the end; each solution a head of its own."""
    longest = max(item.length for item in solutions)
    won, lost = np.zeros((2, len(solutions), longest + 1))
    opinion = np.ones((len(solutions), longest + 1))
    for row, item in enumerate(solutions):
        first = longest - item.length
        won[row, first:longest], lost[row, first:longest] = item.won, item.lost
        opinion[row, first:] = item.opinion
    problems = np.arange(len(solutions)) if problems is None else np.array(problems)
    groups = Groups(problems, np.arange(len(solutions)))
    lengths = np.array([item.length for item in solutions])
    verdicts = np.array([item.verdict for item in solutions])
    return Evidence(lengths, verdicts, groups, won, lost, opinion)


def read(solutions, hyper, ahead=0, problems=None):
    evidence = as_evidence(solutions, problems)
    reader = Reader(hyper, sorted({item.length for item in solutions}))
    emit = emissions(evidence, hyper, ahead)
    said = reader.messages(evidence, emit)
    root = roots(evidence.groups, said.root, hyper.root_prior)
    return posterior(reader, evidence, root, said, emit), said


def same(found, wanted, tolerance=1e-9):
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
@pytest.mark.parametrize("verdict", [WRONG, RIGHT, UNKNOWN])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_posterior_is_the_sum_over_all_paths(length, verdict, hyper):
    for seed in range(3):
        solution = one(length, verdict, seed)
        [found] = read([solution], hyper)[0].first_error
        joint = enumerated(solution, hyper, hyper.root_prior)
        same(found, joint / joint.sum())


def test_contradicting_counts_of_hundreds_give_a_finite_posterior():
    rng = np.random.default_rng(0)
    for hyper in HYPERS.values():
        items = [one(int(length), WRONG) for length in rng.integers(1, 20, 40)]
        for item in items:
            sides = rng.integers(0, 2, (2, item.length))
            item.won, item.lost = rng.integers(200, 900, (2, item.length)) * sides
            # Nobody asks before the first step: what is known there comes from siblings.
            item.won[0] = item.lost[0] = 0
        post = read(items, hyper, AHEAD, problems=np.arange(40) // 4)[0]
        assert np.isfinite(gains(post)).all()
        same(post.first_error.sum(1), np.ones(40))


@some_hypers
def test_the_root_messages_are_the_likelihoods_of_each_level(hyper):
    solution = one(3, WRONG)
    [said] = read([solution], hyper)[1].root
    wanted = np.log([enumerated(solution, hyper, row).sum() for row in EACH_LEVEL])
    # Counts are scaled column by column: only differences mean something.
    same(said - said[0], wanted - wanted[0])


@some_hypers
def test_solutions_of_one_problem_are_read_with_one_common_level(hyper):
    pair = [one(2, WRONG, 1), one(3, RIGHT, 2)]
    both = read(pair, hyper, problems=[7, 7])[0].first_error
    joint = np.zeros((3, 4))
    for root, chance in zip(EACH_LEVEL, hyper.root_prior, strict=True):
        first, second = (enumerated(item, hyper, root) for item in pair)
        joint += chance * np.outer(first, second)
    joint /= joint.sum()
    same(both[0, 1:], joint.sum(1))
    same(both[1], joint.sum(0))


def test_the_likelihood_of_a_pool_is_the_product_over_its_problems():
    items, problems = [one(2, WRONG, 1), one(3, RIGHT, 2), one(1, UNKNOWN, 3)], [0, 0, 1]

    def found(hyper):
        groups, said = as_evidence(items, problems).groups, read(items, hyper)[1].root
        return log_likelihood(groups, said, hyper.root_prior)

    def wanted(hyper):
        first, second, third = (
            np.array([enumerated(item, hyper, row).sum() for row in EACH_LEVEL]) for item in items
        )
        return np.log(hyper.root_prior @ (first * second)) + np.log(hyper.root_prior @ third)

    # The counts have a scale of their own, the same for all parameters.
    for hyper in HYPERS.values():
        same(found(hyper) - found(Hyper()), wanted(hyper) - wanted(Hyper()))


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
def test_a_batch_of_many_lengths_reads_each_solution_as_if_alone(hyper):
    items = [one(length, length % 3, 5) for length in (4, 1, 6, 3, 6, 2, 9)]
    batch = read(items, hyper, AHEAD)[0]
    worth, rates = gains(batch), success_rates(batch)
    for row, item in enumerate(items):
        alone = read([item], hyper, AHEAD)[0]
        first = 9 - item.length
        same(batch.first_error[row, first:], alone.first_error[0])
        assert not batch.first_error[row, :first].any()
        inner = slice(1, item.length)
        same(batch.outcomes[row, first:, first:][inner], alone.outcomes[0, inner])
        same(worth[row, first:][inner], gains(alone)[0, inner])
        same(rates[row, first:][inner], success_rates(alone)[0, inner])


@some_hypers
def test_a_pool_read_in_parts_is_read_the_same(hyper, monkeypatch):
    items = [one(length, length % 3, 5) for length in (4, 1, 6, 3, 6, 2, 9, 9)]
    problems = [0, 1, 0, 1, 2, 2, 2, 0]

    def readings():
        found = {}
        for part, post in PoolReader(hyper, as_evidence(items, problems)).read(np.arange(8), 2):
            for row, number in enumerate(part):
                first = post.first_error.shape[1] - 1 - items[number].length
                found[int(number)] = post.first_error[row, first:]
        return found

    whole = readings()
    monkeypatch.setattr("data_gen.labelers.bayes_reading._MAX_CELLS", 1000)
    assert len(list(parts(np.arange(8), as_evidence(items).lengths, 2))) > 3
    cut = readings()
    assert set(cut) == set(whole) == set(range(8))
    for number, row in whole.items():
        same(cut[number], row)


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
@pytest.mark.parametrize("verdict", [WRONG, RIGHT, UNKNOWN])
def test_foretold_outcomes_are_ratios_of_joint_probabilities(verdict, hyper):
    solution, root, n = one(3, verdict, 4), hyper.root_prior, 2
    outcomes = read([solution], hyper, n)[0].outcomes[0]
    before = enumerated(solution, hyper, root)
    for kept in (1, 2):
        for successes in range(n + 1):
            more = solution.with_more(kept, successes, n - successes)
            ratio = math.comb(n, successes) * enumerated(more, hyper, root) / before
            same(outcomes[kept, :, successes], ratio)
        same(outcomes[kept].sum(1), np.ones(4))


def information(solution, hyper, kept, n):
    """Nats that n more rollouts tell of the first error: the mean fall of its entropy."""
    before = enumerated(solution, hyper, hyper.root_prior)
    told = entropy(before / before.sum())
    for successes in range(n + 1):
        more = solution.with_more(kept, successes, n - successes)
        after = enumerated(more, hyper, hyper.root_prior)
        chance = math.comb(n, successes) * after.sum() / before.sum()
        told -= chance * entropy(after / after.sum())
    return told


def entropy(chances):
    return -(chances * np.log(chances)).sum()


@some_hypers
@pytest.mark.parametrize("verdict", [WRONG, RIGHT, UNKNOWN])
def test_gains_are_the_mean_fall_of_entropy(verdict, hyper):
    solution = one(3, verdict, 6, most=3)
    [found] = gains(read([solution], hyper, AHEAD)[0])
    for kept in (1, 2):
        each = [information(solution, hyper, kept, n) / n for n in (1, AHEAD)]
        assert found[kept] == pytest.approx(max(each), abs=1e-9)
        assert found[kept] > 0


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
def test_success_rates_are_the_chance_of_one_more_success(hyper):
    solution = one(3, WRONG, 7)
    now = enumerated(solution, hyper, hyper.root_prior).sum()
    for ahead in (1, 5):
        [found] = success_rates(read([solution], hyper, ahead)[0])
        for kept in (1, 2):
            then = enumerated(solution.with_more(kept, 1, 0), hyper, hyper.root_prior).sum()
            assert found[kept] == pytest.approx(then / now, abs=1e-9)
