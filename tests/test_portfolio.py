import math
from collections import Counter
from fractions import Fraction

import pytest

from data_gen.portfolio import spread
from prm.errors import ConfigError

WEIGHTS = [
    {"a": 1},
    {"a": 1, "b": 1},
    {"a": 3, "b": 2, "c": 1},
    {"a": 5, "b": 1, "c": 1},
    {"a": 0.1, "b": 0.2, "c": 0.3},
    {"a": 0.25, "b": 1e-3, "c": 4},
    {name: i % 3 + 1 for i, name in enumerate("abcdefghijk")},
]


def test_the_order_is_the_one_worked_out_by_hand():
    # due: a 2, b 1 -> a (-1, 1); a 1, b 2 -> b (1, -1); a 3, b 0 -> a (0, 0); and again.
    assert spread({"a": 2, "b": 1}, 6) == ["a", "b", "a", "a", "b", "a"]
    # The example that nginx gives for its rule.
    assert "".join(spread({"a": 5, "b": 1, "c": 1}, 7)) == "aabacaa"


@pytest.mark.parametrize("weights", WEIGHTS)
def test_more_samples_go_on_where_fewer_ended(weights):
    whole = spread(weights, 40)
    assert len(whole) == 40
    assert all(spread(weights, n) == whole[:n] for n in range(40))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_full_round_gives_each_strategy_its_exact_share_and_then_repeats(weights):
    shares = {name: Fraction(str(weight)) for name, weight in weights.items()}
    unit = Fraction(
        math.gcd(*(share.numerator * 10**6 // share.denominator for share in shares.values())),
        10**6,
    )
    counts = {name: int(share / unit) for name, share in shares.items()}
    period = sum(counts.values())
    twice = spread(weights, 2 * period)
    assert Counter(twice[:period]) == counts
    assert twice[:period] == twice[period:]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_no_strategy_is_ever_a_whole_sample_ahead_of_its_share(weights):
    total, counts = sum(weights.values()), Counter()
    for n, name in enumerate(spread(weights, 60), start=1):
        counts[name] += 1
        assert counts[name] < n * weights[name] / total + 1


def test_equal_weights_take_turns_in_the_order_of_their_names():
    assert spread({"z": 1, "a": 1, "m": 1}, 7) == ["a", "m", "z", "a", "m", "z", "a"]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_order_of_the_weights_decides_nothing(weights):
    assert spread(dict(reversed(weights.items())), 40) == spread(weights, 40)


def test_only_the_ratio_of_the_weights_matters():
    # As binary numbers 0.1, 0.4 and 0.7 are not quite 1 to 4 to 7, and a tie would break.
    tenths = spread({"a": 0.1, "b": 0.4, "c": 0.7}, 60)
    assert tenths == spread({"a": 1, "b": 4, "c": 7}, 60) == spread({"a": 3, "b": 12, "c": 21}, 60)


@pytest.mark.parametrize("weight", [0, -1, -0.5, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_positive_number_is_refused_by_name(weight):
    with pytest.raises(ConfigError, match="strategy 'bad' should be a positive number"):
        spread({"good": 1, "bad": weight}, 4)


def test_no_weights_and_a_negative_number_are_refused():
    with pytest.raises(ConfigError, match="at least one strategy"):
        spread({}, 4)
    with pytest.raises(ConfigError, match="not be negative, found -1"):
        spread({"a": 1}, -1)


def test_no_samples_need_no_strategy():
    assert spread({"a": 1}, 0) == []
