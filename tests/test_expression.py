import random
import time
from fractions import Fraction

import pytest

from prm.verifiers.expression import MAX_LENGTH, NoValue, Unreadable, parse_expression

READ = {
    "2 + 3 * 4": 14,
    "(2 + 3) * 4": 20,
    "2(3+4)": 14,
    "(1)(2)(3)": 6,
    "(1/2)(4)": 2,
    "-2^2": -4,
    "(-2)^2": 4,
    "2**3**2": 512,
    "2^-1": Fraction(1, 2),
    "3 - -2": 5,
    "007 + 1": 8,
    ".5 + 0.25": Fraction(3, 4),
    "0.1 + 0.2": Fraction(3, 10),
    "1,000,000 / 4": 250_000,
    "1{,}000": 1000,
    r"\frac{1}{2} + \dfrac34": Fraction(5, 4),
    r"\frac{\frac{1}{2}}{3}": Fraction(1, 6),
    r"\frac{1}{2^{3}}": Fraction(1, 8),
    r"3 \times 4 \div 6 \cdot 2": 4,
    r"\left( 1 + 2 \right) \cdot 3": 9,
    "3 \u00d7 4 \u00f7 6 \u2212 1": 1,
    r"10^{10}": 10**10,
    "0^5": 0,
    "(" * 40 + "1" + ")" * 40: 1,
    "+".join(["1"] * 300): 300,
}

REFUSED = [
    *("", " ", "()", "1 2", "1.5.2", "1//2", "1 %2", "3!", "x", "2x", "pi", "1 if 1 else 2"),
    *("1_000", "0x1f", "3j", "1e5", "True", "lambda: 1", "[1]", "{1}", "1,2", "1,00", "a.b"),
    *("__import__('os').system('true')", "(lambda: 1)()", "open('x')", "1;2", "1\x002", "1\n#2"),
    *("\uff12 + 1", "٣", "1 + ²", "1 ** ** 2", "* 2", "2 *", "(1", "1)", ")1(", "1/2(3)", "2^2(3)"),
    *(r"3\frac12", r"\frac{1}", r"\frac{1}{2", r"\sqrt{4}", "sqrt(4)", r"\input{x}", "{" * 300),
    *("(" * 41 + "1" + ")" * 41, "-" * 100 + "1", "3 - - - 2", "1" * (MAX_LENGTH + 1)),
    *("1" + "+1" * MAX_LENGTH, r"\frac{" * 90, "(" * 590, "1(" * 200),
]

WORTHLESS = {
    "1/0": "division_by_zero",
    "1/(2-2)": "division_by_zero",
    "0^0": "division_by_zero",
    "0^-1": "division_by_zero",
    "2^0.5": "not_rational",
    "9^9^9^9^9": "too_large",
    "9**9**9": "too_large",
    "10^(10^10)": "too_large",
    "1^(9^9^9)": "too_large",
    "9" * 500 + "^" + "9" * 50: "too_large",
    "(9^999)^999": "too_large",
}


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_arithmetic_has_its_exact_value(text, value):
    assert parse_expression(text, juxtaposed=True).value() == value


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text)[:30])
def test_all_else_is_refused_at_once(text):
    begin = time.perf_counter()
    with pytest.raises(Unreadable):
        parse_expression(text, juxtaposed=True)
    assert time.perf_counter() - begin < 0.2


@pytest.mark.parametrize(("text", "reason"), WORTHLESS.items(), ids=lambda text: text[:30])
def test_what_has_no_value_says_why_at_once(text, reason):
    begin = time.perf_counter()
    with pytest.raises(NoValue) as caught:
        parse_expression(text).value()
    assert caught.value.reason == reason
    assert time.perf_counter() - begin < 0.2


def test_a_product_without_a_sign_is_read_only_where_asked_for():
    with pytest.raises(Unreadable):
        parse_expression("2(3)")


def test_whole_steps_refuse_a_fraction_in_between():
    assert parse_expression("6 / 4 * 2").value() == 3
    with pytest.raises(NoValue) as caught:
        parse_expression("6 / 4 * 2").value(whole_steps=True)
    assert caught.value.reason == "not_whole"
    assert parse_expression("6 / 3 * 2").value(whole_steps=True) == 4


def test_numbers_and_operators_stand_in_the_order_of_the_text():
    expression = parse_expression("(1 + 20) / .5")
    assert expression.tokens == ("(", "1", "+", "20", ")", "/", ".5")
    assert expression.numbers == ["1", "20", ".5"]
    assert expression.operators == {"+", "/"}


def test_random_expressions_have_the_value_that_python_gives_fractions():
    rng = random.Random(0)

    def draw(depth):
        if not depth or rng.random() < 0.2:
            return str(rng.randint(0, 20))
        return f"({draw(depth - 1)} {rng.choice('+-*/')} {draw(depth - 1)})"

    compared = 0
    for _ in range(500):
        text = draw(4)
        # Ours alone: digits, signs and brackets.
        python = "".join(f"Fraction({part})" if part.isdigit() else part for part in _parts(text))
        try:
            expected = eval(python, {"Fraction": Fraction})
        except ZeroDivisionError:
            with pytest.raises(NoValue):
                parse_expression(text).value()
            continue
        assert parse_expression(text).value() == expected
        compared += 1
    assert compared > 300


def _parts(text):
    return [part for part in text.replace("(", " ( ").replace(")", " ) ").split(" ") if part]


def test_no_random_bytes_raise_anything_else():
    rng = random.Random(1)
    pieces = [
        *"0123456789+-*/^().,{}\\ \t=%$", "**", r"\frac", r"\sqrt", "sqrt", r"\times", r"\left",
        "\uff11", "√", "\x00", "e", "_", "import", "\ud800",
    ]  # fmt: skip
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 40)))
        try:
            parse_expression(text, juxtaposed=True, with_roots=rng.random() < 0.5).value()
        except (Unreadable, NoValue):
            continue
