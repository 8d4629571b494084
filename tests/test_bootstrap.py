import numpy as np
import pytest

from prm.errors import ConfigError
from prm.evaluation import bootstrap
from prm.evaluation.bootstrap import (
    Interval,
    bootstrap_statistic,
    interval,
    paired_difference,
    wilson,
)
from prm.evaluation.step_metrics import roc_auc


def test_equal_values_have_an_interval_without_width() -> None:
    assert interval([0.5] * 20) == (0.5, 0.5, 0.5)
    assert interval([1.0]) == (1.0, 1.0, 1.0)


def test_the_interval_has_the_width_of_the_normal_approximation() -> None:
    # 400 values, half 0 and half 1: standard error .5 / 20 = .025, so 0.5 +- 1.96 * .025.
    mean, low, high = interval([0.0, 1.0] * 200)
    assert mean == 0.5
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.004)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(1000):
        _, low, high = interval(rng.normal(2.0, 1.0, 60), num_resamples=300, seed=trial)
        covered += low <= 2.0 <= high
    # Of 60 values the percentile interval is slightly short: about 94%, give or take 0.8 here.
    assert 0.91 <= covered / 1000 <= 0.965


def test_the_seed_decides_and_the_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random(50)
    first = interval(values, seed=3)
    assert interval(values, seed=3) == first
    assert interval(values, seed=4) != first
    monkeypatch.setattr(bootstrap, "_MAX_DRAWS", 350)  # 285 blocks of 7 resamples and one of 5
    # The mean is summed in another order, hence not to the last bit.
    assert interval(values, seed=3) == pytest.approx(first, abs=1e-12)


def test_values_of_one_cluster_are_drawn_together() -> None:
    # 10 copies of each value are no new information: the interval stays that of the 30 problems.
    values = np.random.default_rng(2).random(30)
    alone = interval(values)
    copied = interval(
        np.repeat(values, 10), clusters=[f"p{i}" for i in range(30) for _ in range(10)]
    )
    assert copied == pytest.approx(alone, abs=1e-12)
    naive = interval(np.repeat(values, 10))
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)


def test_the_mean_of_clusters_is_over_values() -> None:
    assert interval([1.0, 0.0, 0.0, 0.0], clusters=["a", "b", "b", "b"]).mean == 0.25


def test_pairing_removes_what_two_methods_share() -> None:
    rng = np.random.default_rng(3)
    difficulty = rng.random(200)
    a, b = difficulty + 0.01 + rng.normal(0, 0.01, 200), difficulty
    difference = paired_difference(a, b)
    assert difference.excludes_zero
    assert difference.mean == pytest.approx(float(np.mean(a - b)))
    assert interval(a).low < interval(b).high  # unpaired intervals overlap
    assert not paired_difference(b, b).excludes_zero
    assert Interval(-0.2, -0.3, -0.1).excludes_zero


def test_a_bootstrapped_mean_is_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(4).random(100).tolist()
    found = bootstrap_statistic(values, lambda drawn: sum(drawn) / len(drawn))
    assert found[:3] == pytest.approx(interval(values), abs=0.01)
    assert found.num_undefined == 0


def test_undefined_resamples_are_counted() -> None:
    # Two problems of each class: all 4 draws fall into one class in 2 of 16 cases, 125 of 1000.
    groups = [(0.9, True), (0.6, True), (0.7, False), (0.1, False)]

    def auc(drawn: list[tuple[float, bool]]) -> float | None:
        return roc_auc([score for score, _ in drawn], [right for _, right in drawn])

    found = bootstrap_statistic(groups, auc, num_resamples=1000)
    assert found.value == 0.75
    assert 90 <= found.num_undefined <= 160
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    with pytest.raises(ConfigError, match="undefined on the 1 groups"):
        bootstrap_statistic(groups[:1], auc)


def test_wilson_against_its_closed_form() -> None:
    # z^2 = 3.8415: centre (5 + 1.92073) / 13.8415 = .5, half width .5 * sqrt(3.8415 / 13.8415).
    mean, low, high = wilson(5, 10)
    assert mean == 0.5
    assert (low, high) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    # At 0 successes the upper end is z^2 / (n + z^2).
    assert wilson(0, 10) == pytest.approx((0.0, 0.0, 3.841459 / 13.841459), abs=1e-6)
    assert wilson(10, 10).high == 1.0


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(ConfigError, match="shape"):
        interval([])
    with pytest.raises(ConfigError, match="1 of them NaN"):
        interval([0.5, float("nan")])
    with pytest.raises(ConfigError, match="1 clusters for 2"):
        interval([0.5, 0.5], clusters=["a"])
    with pytest.raises(ConfigError, match="not paired"):
        paired_difference([0.5], [0.5, 0.5])
    with pytest.raises(ConfigError, match="level"):
        interval([0.5], level=95)
    with pytest.raises(ConfigError, match="no share"):
        wilson(0, 0)
    with pytest.raises(ConfigError, match="undefined on the 0 groups"):
        bootstrap_statistic([], len)
