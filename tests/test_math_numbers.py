"""Exact arithmetic on text agrees with Python's fractions, and is bounded."""

import random
import time
from fractions import Fraction

import pytest

from prm.verifiers.math.numbers import TooLargeError, exact_value


def expression(rng, depth):
    """A random expression and its value."""
    if depth == 0:
        number = rng.randrange(0, 40)
        return str(number), Fraction(number)
    left, one = expression(rng, depth - 1)
    right, other = expression(rng, depth - 1)
    kind = rng.choice(["+", "-", "*", "/", "frac", "power"])
    if kind in ("/", "frac") and other == 0:
        kind = "+"
    if kind == "power":
        return f"({left})^{{2}}", one**2
    if kind == "frac":
        return rf"\frac{{{left}}}{{{right}}}", one / other
    value = {"+": one + other, "-": one - other, "*": one * other}
    return f"({left}){kind}({right})", one / other if kind == "/" else value[kind]


def test_random_expressions_have_the_value_that_fractions_give():
    rng = random.Random(5)
    for _ in range(500):
        text, value = expression(rng, rng.randrange(1, 4))
        assert exact_value(text) == value, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14), ("-2^2", -4), ("(-2)^2", 4), ("2^{-1}", Fraction(1, 2)), ("8/2/2", 2),
        ("2^{3^2}", 512), ("(3!)!", 720), ("10-2-3", 5), (r"2\frac{1}{3}", Fraction(7, 3)),
        (r"\sqrt{\frac{4}{9}}", Fraction(2, 3)), ("1.5e3", 1500), ("2(3)(4)", 24),
        (r"\binom{10}{3}", 120), ("0.1+0.2", Fraction(3, 10)),
    ],
)  # fmt: skip
def test_signs_powers_and_products_bind_as_in_mathematics(text, value):
    assert exact_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2x",
        "3!!",
        "1/0",
        r"\sqrt{2}",
        "0^0",
        "1 2",
        "(1",
        "1)",
        r"2\frac{5}{3}",
        "2+",
        "\u0661",
    ],
)
def test_what_is_no_plain_number_has_no_value(text):
    assert exact_value(text) is None


@pytest.mark.parametrize(
    "text", ["9^{9^{9}}", "9999999!", "10^{10^{10}}", r"\binom{99999}{500}", "(2^{19999})^{2}"]
)
def test_what_would_be_enormous_is_refused_at_once(text):
    began = time.perf_counter()
    with pytest.raises(TooLargeError):
        exact_value(text)
    assert time.perf_counter() - began < 0.5


def test_deep_nesting_ends_and_has_no_value():
    assert exact_value("(" * 5000 + "1" + ")" * 5000) is None
