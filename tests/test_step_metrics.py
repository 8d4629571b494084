import itertools
import math
import random

import numpy as np
import pytest

from prm.errors import ConfigError, EncodingError
from prm.evaluation.step_metrics import (
    UNREADABLE,
    FirstErrorF1,
    best_threshold,
    first_error_f1,
    first_error_of,
    roc_auc,
    step_auc,
)


def test_auc_of_hand_made_scores() -> None:
    # Pairs right x wrong: (.9,.5) won, (.9,.9) tied, (.4,.5) lost, (.4,.9) lost: 1.5 of 4.
    assert roc_auc([0.9, 0.4, 0.5, 0.9], [True, True, False, False]) == 1.5 / 4
    assert roc_auc([0.5, 0.5], [True, False]) == 0.5
    assert roc_auc([0.5, 0.7], [True, True]) is None
    assert roc_auc([], []) is None


def test_auc_equals_the_share_of_pairs_won() -> None:
    rng = random.Random(0)
    for _ in range(50):
        scores = [rng.randrange(6) / 5 for _ in range(30)]
        labels = [True, False, *(rng.random() < 0.6 for _ in range(28))]
        good = [s for s, right in zip(scores, labels, strict=True) if right]
        bad = [s for s, right in zip(scores, labels, strict=True) if not right]
        won = sum((g > b) + (g == b) / 2 for g, b in itertools.product(good, bad))
        assert roc_auc(scores, labels) == pytest.approx(won / (len(good) * len(bad)))


def test_step_auc_leaves_out_what_follows_the_first_error() -> None:
    # Right: .9 .8 .3; wrong: .4. The .99 after the error would be a wrong step scored high.
    assert step_auc([[0.9, 0.4, 0.99], [0.8, 0.3]], [1, None]) == pytest.approx(2 / 3)
    assert step_auc([[0.9, 0.8]], [None]) is None


def test_a_step_at_the_threshold_is_right() -> None:
    assert first_error_of([0.9, 0.5, 0.1], 0.5) == 2
    assert first_error_of([0.9, 0.5, 0.1], 0.51) == 1
    assert first_error_of([0.9], 0.5) is None
    assert first_error_of([], 0.5) is None


def test_f1_of_a_hand_made_table() -> None:
    # Wrong solutions: 1 of 2 exact (2 is not 3). Right ones: 2 of 3. F1 = 2*(1/2)(2/3)/(7/6) = 4/7.
    result = first_error_f1([0, 2, None, 1, None], [0, 3, None, None, None])
    assert result[1:] == (1 / 2, 2 / 3, 2, 3)
    assert result.f1 == pytest.approx(4 / 7)


def test_f1_at_its_ends() -> None:
    assert first_error_f1([1, None], [1, None]).f1 == 1.0
    assert first_error_f1([0, 0], [1, None]) == FirstErrorF1(0.0, 0.0, 0.0, 1, 1)
    assert first_error_f1([None, None], [1, None]).f1 == 0.0
    assert first_error_f1([1], [1]) == FirstErrorF1(None, 1.0, None, 1, 0)
    assert first_error_f1([], []) == FirstErrorF1(None, None, None, 0, 0)


def test_an_unreadable_prediction_is_wrong_for_both_classes() -> None:
    assert first_error_f1([UNREADABLE, UNREADABLE], [1, None])[:3] == (0.0, 0.0, 0.0)


def test_the_minus_one_of_processbench_is_no_truth_here() -> None:
    with pytest.raises(ConfigError, match="write None"):
        first_error_f1([None], [-1])


def test_the_threshold_is_the_middle_of_the_widest_best_range() -> None:
    # Right while t <= .8 (solution without error); exact while .2 < t <= .9 (error at step 1).
    best = best_threshold([[0.9, 0.2], [0.8, 0.95]], [1, None])
    assert best == pytest.approx((0.5, 1.0))


def test_of_two_best_ranges_the_wider_is_taken() -> None:
    # Errors: exact in (.1,.2], (.5,.9]. Right solution: t <= .95. F1 is 2/3 in both ranges.
    scores = [[0.2, 0.1], [0.9, 0.5], [0.95]]
    assert best_threshold(scores, [1, 1, None]) == pytest.approx((0.7, 2 / 3))


def test_the_best_threshold_may_lie_at_either_end() -> None:
    low = best_threshold([[0.0, 0.0], [0.3]], [1, None])
    assert low.f1 == 0.0  # no threshold separates two equal scores
    high = best_threshold([[0.9, 1.0], [1.0]], [0, None])
    assert high == pytest.approx((0.95, 1.0))
    only_above = best_threshold([[1.0], [1.0], []], [0, None, None])
    assert only_above.threshold > 1.0
    assert only_above.f1 == pytest.approx(2 / 3)


def test_the_threshold_search_equals_brute_force() -> None:
    rng = random.Random(1)
    for _ in range(100):
        rows = [[rng.randrange(11) / 10 for _ in range(rng.randint(1, 4))] for _ in range(12)]
        truth = [rng.choice([None, rng.randrange(len(row))]) for row in rows[:-2]]
        truth += [None, 0]
        grid = [k / 20 for k in range(-1, 23)]
        scored = [first_error_f1([first_error_of(r, t) for r in rows], truth).f1 for t in grid]
        best = best_threshold(rows, truth)
        again = first_error_f1([first_error_of(r, best.threshold) for r in rows], truth).f1
        assert best.f1 == pytest.approx(max(f1 for f1 in scored if f1 is not None))
        assert again == pytest.approx(best.f1)


def test_ten_thousand_solutions_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((10_000, 5)).tolist()
    truth = [None if k % 2 else int(k % 5) for k in range(10_000)]
    best = best_threshold(rows, truth)
    predicted = [first_error_of(row, best.threshold) for row in rows]
    assert first_error_f1(predicted, truth).f1 == pytest.approx(best.f1)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 solutions with an error and 0 without"):
        best_threshold([[0.5]], [0])
    with pytest.raises(ConfigError, match="first error 2 is none of its 1"):
        step_auc([[0.5]], [2])
    with pytest.raises(ConfigError, match="2 score lists for 1"):
        step_auc([[0.5], [0.5]], [None])
    with pytest.raises(ConfigError, match="1 predictions for 2"):
        first_error_f1([0], [0, 0])
    with pytest.raises(EncodingError, match="score 1 is nan"):
        roc_auc([0.5, math.nan], [True, False])
    with pytest.raises(EncodingError, match="score 0 is nan"):
        first_error_of([math.nan], 0.5)
