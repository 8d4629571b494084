import itertools
import math
import random

import pytest

from data_gen.labelers.probes import SequentialTest, ThresholdTest
from prm.errors import ConfigError


def counted(outcomes):
    read = [one for one in outcomes if one is not None]
    return sum(read), len(read)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.2, 0.25, 0.4, 0.5, 0.6, 0.9])
def test_what_a_threshold_says_early_it_says_at_the_end_whatever_comes(threshold):
    test, num_early = ThresholdTest(5, threshold), 0
    for outcomes in itertools.product([True, False, None], repeat=5):
        last = test.decide(*counted(outcomes), 0)
        for had in range(5):
            early = test.decide(*counted(outcomes[:had]), 5 - had)
            num_early += early is not None
            assert early in (None, last)
    assert num_early


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.25, 0.5])
def test_a_threshold_is_asked_of_the_share_of_those_that_could_be_checked(threshold):
    test = ThresholdTest(8, threshold)
    for trials in range(4, 9):
        for successes in range(trials + 1):
            assert test.decide(successes, trials, 0) is (successes / trials > threshold)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 0, None), (0, 3, None), (1, 3, None), (2, 3, None), (3, 3, True), (0, 4, False)],
)
def test_too_few_rollouts_decide_only_what_the_missing_could_not_change(
    successes, trials, expected
):
    # More than a quarter of 8 needs 3 successes.
    assert ThresholdTest(8, 0.25).decide(successes, trials, 0) is expected


def test_at_threshold_0_the_first_success_decides_and_nothing_else_does():
    test = ThresholdTest(8, 0.0)
    assert [test.decide(0, n, 8 - n) for n in range(8)] == [None] * 8
    assert test.decide(0, 8, 0) is False
    assert [test.decide(1, n, 8 - n) for n in range(1, 9)] == [True] * 8


def run(test, rate, source):
    """The outcome and the number of rollouts."""
    successes = trials = 0
    while (good := test.decide(successes, trials, test.max_trials - trials)) is None:
        successes += source.random() < rate
        trials += 1
    return good, trials


def simulate(test, rate, num_runs=4000):
    source = random.Random(7)
    runs = [run(test, rate, source) for _ in range(num_runs)]
    return (sum(good for good, _ in runs) / num_runs, sum(n for _, n in runs) / num_runs)


@pytest.mark.parametrize(
    "test",
    [
        SequentialTest(max_trials=10**6),
        SequentialTest(0.2, 0.3, 0.1, 10**6),
        SequentialTest(0.1, 0.6, 0.01, 10**6),
    ],
)
def test_without_a_cap_errors_and_lengths_are_within_walds_bounds(test):
    # Wald (1945): both errors together are at most twice error / (1 - error) each; the expected
    # evidence at the end is at least that of the two bounds, and no step beyond a bound.
    largest = test.error / (1 - test.error)
    up, down = test.evidence(1, 1), test.evidence(0, 1)
    for rate, is_good in ((test.good_rate, True), (test.bad_rate, False)):
        share_good, length = simulate(test, rate)
        wrong = 1 - share_good if is_good else share_good
        assert wrong <= largest + 4 * math.sqrt(largest / 4000)
        drift = abs(rate * up + (1 - rate) * down)
        overshoot = up if is_good else -down
        noise = 1.1
        assert (1 - 2 * wrong) * test.bound / drift / noise <= length
        assert length <= (test.bound + overshoot) / drift * noise


def test_the_cap_ends_the_test_on_the_side_where_it_stands():
    test = SequentialTest(0.2, 0.3, 0.05, 10)
    for successes in range(11):
        evidence = test.evidence(successes, 10)
        assert test.decide(successes, 10, 0) is (evidence > 0)
        assert (test.decide(successes, 10, 5) is None) is (abs(evidence) < test.bound)
    assert test.decide(1, 4, 0) is None


def test_evidence_adds_up_and_is_in_nats():
    test = SequentialTest(0.1, 0.4, 0.05)
    assert test.evidence(1, 1) == pytest.approx(math.log(4))
    assert test.evidence(0, 1) == pytest.approx(math.log(0.6 / 0.9))
    assert test.evidence(2, 5) == pytest.approx(2 * test.evidence(1, 1) + 3 * test.evidence(0, 1))
    assert test.bound == pytest.approx(math.log(19))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bad_rate": 0.4},
        {"bad_rate": 0.0},
        {"good_rate": 1.0},
        {"error": 0.0},
        {"error": 0.5},
        {"max_trials": 0},
    ],
)
def test_settings_that_make_no_test_are_refused(wrong):
    with pytest.raises(ConfigError):
        SequentialTest(**wrong)
