"""The chain behind the Bayesian labeler: what its matrices must mean."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from data_gen.labelers.bayes_model import (
    LEVELS,
    RATES,
    RIGHT,
    SLIP,
    UNKNOWN,
    WRONG,
    Hyper,
    chain_of,
)
from data_gen.labelers.bayes_posterior import Evidence, Groups, emissions

LENGTH = 6
PAIRS = tuple((LENGTH, left) for left in range(1, LENGTH + 1))


def chain(**changes):
    return chain_of(dataclasses.replace(Hyper(), **changes), PAIRS)


def error_places(made, level):
    """P(first error at each step | V_0 = LEVELS[level]), none last."""
    here, places = np.eye(len(LEVELS))[level], []
    for left in range(LENGTH, 0, -1):
        places.append(here @ made.err[left])
        here = here @ made.go[left]
    return np.array([*places, here.sum()])


@pytest.mark.parametrize("tilt", [-4.0, 0.0, 4.0])
@pytest.mark.parametrize("excess", [0.7, 1.6])
def test_a_step_goes_right_to_some_level_or_wrong(tilt, excess):
    made = chain(tilt=tilt, excess=excess)
    np.testing.assert_allclose(made.go.sum(2) + made.err, 1.0, rtol=1e-12)
    assert (made.go >= 0).all()
    np.testing.assert_allclose(made.bad.sum(3), 1.0, rtol=1e-12)


def test_row_0_changes_nothing():
    made = chain()
    assert (made.go[0] == np.eye(len(LEVELS))).all()
    assert not made.err[0].any()


@pytest.mark.parametrize("unevenness", [0.25, 0.7, 4.0])
def test_a_good_prefix_succeeds_as_often_as_its_next_step_goes_well(unevenness):
    # V = P(no error in the step) * E(V behind it): repairs are not in the levels.
    made = chain(unevenness=unevenness)
    for left in range(2, LENGTH + 1):
        onward = made.go[left] @ LEVELS
        # The steps of the grid and the slips are all that may be off.
        assert np.abs(onward - LEVELS).max() < 0.03 + SLIP


def test_the_chance_of_no_error_is_the_level():
    made = chain()
    for level, value in enumerate(LEVELS):
        none = error_places(made, level)[-1]
        assert none == pytest.approx(value, abs=0.03 + LENGTH * SLIP)


def test_errors_are_even_over_the_steps_without_a_tilt_and_move_with_it():
    middle = len(LEVELS) // 2
    even, early, late = (error_places(chain(tilt=tilt), middle)[:-1] for tilt in (0.0, -4.0, 4.0))
    assert even.max() < 1.6 * even.min()
    assert (np.diff(early) < 0).all()
    assert (np.diff(late) > 0).all()
    assert early[0] > 2 * even[0]
    assert late[-1] > 2 * even[-1]


def test_without_a_tilt_a_step_depends_on_the_steps_left_alone():
    for left, length in itertools.product((1, 2, 5), (5, 9, 17)):
        made = chain_of(Hyper(), ((length, left), (20, left)))
        assert (made.go[1] == made.go[2]).all()
        assert (made.err[1] == made.err[2]).all()
        if left > 1:
            tilted = chain_of(Hyper(tilt=2.0), ((length, left), (20, left)))
            assert (tilted.err[1] != tilted.err[2]).any()


def test_a_small_unevenness_puts_the_risk_into_few_steps():
    middle = len(LEVELS) // 2
    spread = [chain(unevenness=c).go[4, middle] for c in (0.25, 0.7, 4.0)]
    # A step then takes nothing or all of the risk: the level stays, or is at the top.
    stays = [(row[middle] + row[0]) / row.sum() for row in spread]
    assert stays[0] > stays[1] > stays[2]


def test_more_excess_is_more_errors():
    for left in range(1, LENGTH + 1):
        few, many = chain(excess=0.7), chain(excess=1.6)
        assert (many.err[left] > few.err[left]).all()


def test_a_wrong_prefix_fades_on_the_way_to_a_wrong_answer_and_rises_on_that_to_a_right_one():
    made = chain()
    inner = slice(2, -2)
    for left in range(1, LENGTH + 1):
        wrong, right, unknown = (
            made.bad[verdict, left] @ RATES for verdict in (WRONG, RIGHT, UNKNOWN)
        )
        # A little of each rate goes anywhere.
        assert (wrong < RATES + 0.02)[inner].all()
        assert (right > RATES - 0.02)[inner].all()
        assert (right > wrong + 0.02)[inner].all()
        assert (unknown > np.minimum(wrong, RATES) - 1e-9).all()
        assert (unknown < np.maximum(right, RATES) + 1e-9).all()
    # The last steps leave little time to repair anything.
    assert (made.bad[WRONG, 1] @ RATES).max() < 0.05
    assert (made.bad[RIGHT, 1] @ RATES).min() > 0.8


def test_without_fading_a_rate_stays_on_average_near():
    made = chain(fade=0.0)
    for left in range(2, LENGTH + 1):
        assert np.abs(made.bad[WRONG, left] @ RATES - RATES).max() < 0.03
    assert (chain(fade=1.3).bad[WRONG, 3] @ RATES < made.bad[WRONG, 3] @ RATES)[1:].all()


def test_verdicts_follow_from_errors_as_often_as_they_are_repaired():
    made, hyper = chain(), Hyper()
    for last in (0, 1):
        both = made.start[WRONG, last] + made.start[RIGHT, last]
        np.testing.assert_allclose(both, made.start[UNKNOWN, last], rtol=1e-12)
        assert made.start[UNKNOWN, last].sum() == pytest.approx(1.0)
    assert made.start[RIGHT, 0].sum() == pytest.approx(hyper.recovery_prior @ RATES)
    assert made.start[RIGHT, 1].sum() < 0.05
    assert made.none[WRONG] + made.none[RIGHT] == pytest.approx(made.none[UNKNOWN])


def test_the_name_of_parameters_says_which_they_are():
    changed = [
        Hyper(tilt=1.0),
        Hyper(dips=0.06),
        Hyper(root=(0.5,) * len(LEVELS)),
        Hyper(recovery=(0.5,) * len(RATES)),
    ]
    names = [hyper.name for hyper in (Hyper(), *changed)]
    assert len(set(names)) == 5
    assert Hyper().name == names[0]


def foretold(won, lost, dips, ahead, level=0.15):
    """P(s of the next ones succeed | state, and these counts), by good and by bad states."""
    counts = np.array([[won, 0.0]]), np.array([[lost, 0.0]])
    one = np.array([1])
    evidence = Evidence(one, one * WRONG, Groups(one, one), *counts, np.ones((1, 2)))
    emit = emissions(evidence, Hyper(dips=dips, dip_level=level), ahead)
    good, bad = emit.good_more[0, 0], emit.bad_more[0, 0]
    np.testing.assert_allclose(good.sum(1), emit.good[0, 0], rtol=1e-9)
    np.testing.assert_allclose(bad.sum(1), emit.bad[0, 0], rtol=1e-9)
    return good, bad


def test_a_state_succeeds_about_as_often_as_its_grid_point_says():
    good, bad = foretold(0, 0, 0.0, 1)
    for found, grid in ((good[:, 1], LEVELS[::-1]), (bad[:, 1], RATES)):
        found = found if found[0] < found[-1] else found[::-1]
        assert (np.diff(found) > 0).all()
        assert (found[1:] > grid[:-1]).all()
        assert (found[:-1] < grid[1:]).all()


@pytest.mark.parametrize("level", [0.05, 0.15, 0.5])
def test_in_a_dip_a_good_prefix_succeeds_so_much_less(level):
    plain, dipped, mixed = (foretold(0, 0, dips, 1, level)[0][:, 1] for dips in (0.0, 1.0, 0.25))
    floor = RATES[0]
    np.testing.assert_allclose(dipped, np.maximum(level * plain, floor), rtol=0.1, atol=floor)
    np.testing.assert_allclose(mixed, 0.75 * plain + 0.25 * dipped, rtol=1e-9)
    assert (foretold(0, 0, 0.25, 1)[1] == foretold(0, 0, 0.0, 1)[1]).all()


@pytest.mark.parametrize("dips", [0.0, 0.2])
def test_counts_that_were_seen_and_counts_that_are_foretold_are_one_likelihood(dips):
    before, after = foretold(0, 0, dips, 9), foretold(3, 2, dips, 4)
    for whole, rest in zip(before, after, strict=True):
        # Two of the next four: five of all nine, of which three came first, up to one scale.
        ratio = whole[:, 5] / math.comb(9, 5) / (rest[:, 2] / math.comb(4, 2))
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    scales = [(whole[:, 5] / rest[:, 2])[0] for whole, rest in zip(before, after, strict=True)]
    assert scales[0] == pytest.approx(scales[1])


def test_hundreds_of_counts_do_not_underflow():
    for won, lost in ((0, 900), (900, 0), (450, 450)):
        for found in foretold(won, lost, 0.1, 2):
            assert np.isfinite(found).all()
        assert max(part.max() for part in foretold(won, lost, 0.1, 2)) > 0.01
