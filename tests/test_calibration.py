import itertools
import random
from typing import Any

import pytest

from prm.errors import ConfigError, EncodingError
from prm.evaluation.calibration import (
    Bin,
    brier_score,
    expected_calibration_error,
    reliability,
)


def test_bins_of_equal_mass_by_hand() -> None:
    bins = reliability([0.4, 0.1, 0.3, 0.2], [4, 0, 1, 1], [4, 4, 4, 4], num_bins=2)
    assert bins[0] == pytest.approx(Bin(0.1, 0.2, 2, 0.15, 0.125))
    assert bins[1] == pytest.approx(Bin(0.3, 0.4, 2, 0.35, 0.625))
    # (2 * |.15 - .125| + 2 * |.35 - .625|) / 4
    assert expected_calibration_error(bins) == pytest.approx(0.15)


def test_bins_of_equal_width_by_hand() -> None:
    bins = reliability([0.0, 0.49, 0.5, 1.0], [0, 1, 1, 1], [1] * 4, num_bins=2, binning="width")
    assert [(b.num_steps, b.success_rate) for b in bins] == [(2, 0.5), (2, 1.0)]
    assert len(reliability([0.95, 0.91], [1, 1], [1, 1], binning="width")) == 1


def test_equal_scores_share_a_bin_so_the_order_of_the_steps_does_not_matter() -> None:
    rng = random.Random(0)
    rows = [(rng.randrange(4) / 4, rng.randrange(3), 2) for _ in range(40)]
    first: list[Any] = list(zip(*rows, strict=True))
    second: list[Any] = list(zip(*rng.sample(rows, 40), strict=True))
    bins = reliability(*first, num_bins=7)
    assert [b[:3] for b in bins] == [b[:3] for b in reliability(*second, num_bins=7)]
    assert sum(b.num_steps for b in bins) == 40
    assert all(a.high < b.low for a, b in itertools.pairwise(bins))


def test_scores_equal_to_the_rates_have_no_calibration_error() -> None:
    bins = reliability([0.0, 0.25, 0.5, 1.0], [0, 1, 2, 4], [4] * 4, num_bins=4)
    assert expected_calibration_error(bins) == 0.0


def test_one_bin_measures_the_mean_alone() -> None:
    for binning in ("mass", "width"):
        bins = reliability([0.9, 0.7], [1, 0], [1, 1], num_bins=1, binning=binning)
        assert expected_calibration_error(bins) == pytest.approx(0.3)


def test_each_step_weighs_one_whatever_its_trials() -> None:
    bins = reliability([0.5, 0.5], [1, 0], [1, 100], num_bins=1)
    assert bins[0].success_rate == 0.5


def test_brier_score_is_the_mean_over_the_outcomes_of_the_trials() -> None:
    # Step 1: outcomes 1, 0 at .8: (.04 + .64) / 2 = .34. Step 2: outcome 1 at .5: .25.
    assert brier_score([0.8, 0.5], [1, 1], [2, 1]) == pytest.approx((0.34 + 0.25) / 2)
    assert brier_score([1.0, 0.0], [3, 0], [3, 3]) == 0.0


def test_what_is_no_score_or_no_share_is_refused() -> None:
    with pytest.raises(EncodingError, match="step 1: score nan"):
        brier_score([0.5, float("nan")], [1, 1], [1, 1])
    for bad in ((1.5, 1, 1), (0.5, 2, 1), (0.5, 0, 0), (0.5, -1, 1)):
        with pytest.raises(EncodingError, match="step 0"):
            reliability([bad[0]], [bad[1]], [bad[2]])
    with pytest.raises(ConfigError, match="0 scores"):
        reliability([], [], [])
    with pytest.raises(ConfigError, match="2 scores, 1 successes"):
        brier_score([0.5, 0.5], [1], [1, 1])
    binning: Any = "depth"
    with pytest.raises(ConfigError, match="'depth'"):
        reliability([0.5], [1], [1], binning=binning)
    with pytest.raises(ConfigError, match="no bins"):
        expected_calibration_error([])
