import math
from typing import Any

import pytest

from prm.aggregate import AGGREGATES, aggregate
from prm.errors import ConfigError, EncodingError


@pytest.mark.parametrize(
    ("how", "expected"), [("min", 0.2), ("prod", 0.1), ("last", 0.5), ("mean", 1.7 / 3)]
)
def test_each_aggregate_is_the_number_worked_out_by_hand(how: Any, expected: float) -> None:
    assert aggregate([1.0, 0.2, 0.5], how) == pytest.approx(expected)


def test_every_aggregate_of_one_step_is_its_score() -> None:
    assert AGGREGATES == ("min", "prod", "last", "mean")
    assert {aggregate([0.3], how) for how in AGGREGATES} == {0.3}


def test_the_default_is_the_weakest_step() -> None:
    assert aggregate([0.9, 0.1, 0.8]) == 0.1


def test_an_unknown_aggregate_is_refused_with_the_choices() -> None:
    how: Any = "max"
    with pytest.raises(ConfigError, match=r"'max'.*min, prod, last, mean"):
        aggregate([0.5], how)


@pytest.mark.parametrize("how", AGGREGATES)
def test_no_scores_or_a_nan_have_no_aggregate(how: Any) -> None:
    with pytest.raises(EncodingError, match="without steps"):
        aggregate([], how)
    # min() would pass a NaN over or not, depending on the order.
    for scores in ([math.nan, 0.5], [0.5, math.nan]):
        with pytest.raises(EncodingError, match="NaN"):
            aggregate(scores, how)
