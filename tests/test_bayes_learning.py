"""What a pool teaches of the chain's parameters."""

import dataclasses
import functools

import numpy as np
import pytest

from benchmarks.labelling.worlds import SyntheticWorld, WorldConfig
from data_gen.labelers.bayes_learning import GRIDS, learn, score
from data_gen.labelers.bayes_model import LEVELS, RATES, Hyper
from data_gen.labelers.bayes_pool import Pool
from prm.records import Verdict

PROBLEMS, ROLLOUTS = 200, 6


@functools.cache
def evidence(p0, q, shape="base", **constants):
    """Some rollouts of every prefix of short solutions of 200 problems."""
    config = WorldConfig(
        p0,
        q,
        shape,
        3,
        6,
        solutions_per_problem=4,
        rollout_noise=0.0,
        verdict_noise=0.0,
        **constants,
    )
    world = SyntheticWorld(config, seed=5, min_wrong=int(4 * PROBLEMS * (1 - p0) * 0.8))
    statuses = ["right" if one.final_answer == "right" else "wrong" for one in world.solutions]
    verdicts = [Verdict(status, "world") for status in statuses]
    found = Pool(world.solutions, verdicts).evidence
    for row, one in enumerate(world.solutions):
        for kept in range(1, len(one.steps)):
            drawn = [world.rollout(row, kept, draw)[0] for draw in range(ROLLOUTS)]
            column = found.longest - len(one.steps) + kept
            found.won[row, column] += sum(drawn)
            found.lost[row, column] += ROLLOUTS - sum(drawn)
    return found


def everyone(found):
    return np.arange(len(found.lengths))


@pytest.mark.parametrize(("p0", "q", "shape"), [(0.5, 0.1, "base"), (0.8, 0.3, "dips")])
def test_no_round_of_learning_makes_the_pool_less_likely(p0, q, shape):
    found = evidence(p0, q, shape)
    hyper = Hyper()
    before = score(hyper, found)
    first = before
    for _ in range(4):
        hyper = learn(hyper, found, everyone(found), rounds=1)
        after = score(hyper, found)
        # A few pseudo-counts hold the priors back.
        assert after > before - 0.5
        before = after
    assert before > first + 20


def test_expectation_and_maximisation_alone_rise_too():
    found, hyper = evidence(0.2, 0.3), Hyper()
    scores = [score(hyper, found)]
    for _ in range(5):
        hyper = learn(hyper, found, everyone(found), rounds=1, search=False)
        scores.append(score(hyper, found))
    assert min(np.diff(scores)) > -0.5
    assert scores[-1] > scores[0] + 10
    assert dataclasses.replace(hyper, root=(), recovery=()) == Hyper()


@functools.cache
def learned(*cell, **constants):
    found, hyper = evidence(*cell, **constants), Hyper()
    for _ in range(5):
        hyper = learn(hyper, found, everyone(found))
    return hyper


@pytest.mark.parametrize("p0", [0.2, 0.5, 0.8])
def test_the_success_rate_of_the_problems_is_found(p0):
    hyper = learned(p0, 0.1)
    assert hyper.root_prior @ LEVELS == pytest.approx(p0, abs=0.08)


@pytest.mark.parametrize("q", [0.0, 0.1, 0.3])
def test_the_rate_of_repairs_is_found(q):
    hyper = learned(0.5, q)
    assert hyper.recovery_prior @ RATES == pytest.approx(q, abs=0.03 + 0.25 * q)


def test_early_errors_tilt_the_risk_down_and_late_ones_up():
    early, base, late = (learned(0.5, 0.1, shape).tilt for shape in ("early", "base", "late"))
    assert early < base < late
    assert early < 0 < late


def test_dips_are_found_where_there_are_some():
    assert learned(0.8, 0.1, "dips").dips > learned(0.8, 0.1).dips


def test_shallow_dips_are_told_from_deep_ones():
    deep, shallow = (
        learned(0.8, 0.1, "dips", dip_share=0.35, dip_rate=rate) for rate in (0.03, 0.5)
    )
    assert deep.dip_level < 0.15 < shallow.dip_level


def test_learning_twice_gives_the_same():
    first, second = (learn(Hyper(), evidence(0.5, 0.1), np.arange(200)) for _ in range(2))
    assert first == second


def test_priors_are_chances_and_the_rest_stays_on_its_grid():
    hyper = learned(0.8, 0.3, "dips")
    for prior in (hyper.root, hyper.recovery):
        assert sum(prior) == pytest.approx(1.0)
        assert min(prior) > 0
    for name, grid in GRIDS.items():
        assert getattr(hyper, name) in grid
        assert getattr(Hyper(), name) in grid


def test_a_pool_of_one_solution_hardly_moves_the_parameters():
    found = evidence(0.5, 0.1)
    single = found.rows(np.array([3]))
    hyper = learn(Hyper(), single, np.array([0]))
    assert abs(hyper.recovery_prior @ RATES - Hyper().recovery_prior @ RATES) < 0.15
    assert abs(hyper.root_prior @ LEVELS - Hyper().root_prior @ LEVELS) < 0.2
