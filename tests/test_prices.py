import math

import pytest

from prm.errors import ConfigError
from prm.ledger import Ledger
from prm.prices import PRICES, Price, in_dollars


@pytest.mark.parametrize(
    ("price", "cost", "dollars"),
    [
        (Price(15, 60), Ledger(1_000_000, 0), 15.0),
        (Price(15, 60), Ledger(0, 1_000_000), 60.0),
        # 200 of 1,000 read ones at half the price: (800 * 15 + 200 * 7.5 + 500 * 60) / 1e6
        (Price(15, 60, 7.5), Ledger(1000, 500, cached_tokens=200), 0.0435),
        # Without a price of their own, cached tokens cost what the others cost; or nothing.
        (Price(15, 60), Ledger(1000, 500, cached_tokens=200), 0.045),
        (Price(15, 60, 0.0), Ledger(1000, 0, cached_tokens=1000), 0.0),
        # A server that counts more cached than read tokens is not believed.
        (Price(15, 60, 7.5), Ledger(1000, 0, cached_tokens=5000), 0.0075),
        (Price(), Ledger(10**9, 10**9), 0.0),
    ],
)
def test_dollars_are_tokens_times_price(price, cost, dollars):
    assert price.dollars(cost) == pytest.approx(dollars, rel=1e-12)


def test_dollars_add_up_over_requests():
    price = PRICES["o1"]
    parts = [Ledger(i, 7 * i, cached_tokens=i // 2) for i in range(100)]
    together = sum(parts, Ledger())
    assert price.dollars(together) == pytest.approx(sum(map(price.dollars, parts)), rel=1e-12)


def test_a_priced_ledger_has_new_dollars_and_the_rest_as_it_was():
    cost = Ledger(10, 20, 1.5, 4, dollars=99.0)
    assert Price(1, 2).priced(cost) == Ledger(10, 20, 1.5, 4, dollars=50e-6)


@pytest.mark.parametrize("field", ["prompt", "generated", "cached"])
@pytest.mark.parametrize("value", [-0.01, math.nan, math.inf])
def test_what_is_no_price_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"price.{field} is {value}"):
        Price(**{field: value})


def test_the_table_has_the_prices_that_the_project_compares_with():
    # The same million of written tokens: $60 at o1's price, $0.60 at Ubicloud's.
    written = Ledger(generated_tokens=1_000_000)
    assert PRICES["o1"].dollars(written) == PRICES["o1-generated-only"].dollars(written) == 60.0
    assert PRICES["ubicloud-qwq-32b"].dollars(written) == 0.6
    assert PRICES["own-server"].dollars(written) == 0.0


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (0.0, "$0"),
        (0.0000537, "$0.0000537"),
        (0.00123456, "$0.00123"),
        (0.5, "$0.500"),
        (12.3, "$12.30"),
        (1234567.891, "$1,234,567.89"),
    ],
)
def test_dollars_are_written_with_three_digits_and_cents(dollars, text):
    assert in_dollars(dollars) == text
