r"""Exact values of plain numeric expressions: ``\frac{1}{2}``, ``2^{10}``, ``\binom{5}{2}``.

A calculator of whole numbers and fractions with a bound on everything that it makes: it is fast,
it never rounds, and no power or factorial can hang it. What it does not know has no value here.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MAX_BITS = 20_000
"""Of any number on the way; about 6,000 digits."""
MAX_FACTORIAL = 1000

# With a leading zero, 0,001 may be a decimal.
_WHOLE = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_TOKEN = re.compile(
    rf"(?P<repeating>[0-9]*\.[0-9]*\\overline\{{[0-9]+\}})"
    rf"|(?P<number>(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,3}}(?![0-9]))?)"
    r"|(?P<times>\\times|\\cdot|\*)|(?P<over>\\div|/)"
    r"|(?P<command>\\frac|\\sqrt|\\binom)(?![A-Za-z])|(?P<sign>[-+^!(){}\[\]])|(?P<space>\s+)"
)
_PLAIN = re.compile(rf"[+-]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,2}})?")
# The first digit is no letter: a_{11} is an unknown.
_BASED = re.compile(
    r"\(?([+-]?[0-9][0-9A-Fa-f]*)\)?_\{?(?:\\text\{)?([0-9]{1,2}|two|eight|sixteen|ten)\}?\}?"
)
_BASES = {"two": 2, "eight": 8, "ten": 10, "sixteen": 16}


class TooLargeError(ArithmeticError):
    """A number on the way would be larger than this module allows."""


class _NoValueError(ValueError):
    """The text is no expression of this calculator."""


def exact_value(text: str) -> Fraction | None:
    """The value of the expression, or None when it is not one of plain numbers.

    Raises:
        TooLargeError: the value, or a part of it, is out of all proportion.
    """
    if len(text) <= 100 and _PLAIN.fullmatch(text):
        return Fraction(text.replace(",", ""))
    try:
        tokens = _tokens(text)
        return _Calculator(tokens).whole() if tokens else None
    except (_NoValueError, ZeroDivisionError, RecursionError):
        return None


def based_value(text: str) -> tuple[str, Fraction] | None:
    r"""The digits and the value of a numeral with its base, as ``101_2``, or None."""
    match = _BASED.fullmatch(text.replace(" ", ""))
    if not match or len(match[1]) > 200:
        return None
    base = _BASES.get(match[2]) or int(match[2])
    if not 2 <= base <= 36:
        return None
    try:
        return match[1], Fraction(int(match[1], base))
    except ValueError:
        return None


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _NoValueError
        if match.lastgroup != "space":
            tokens.append((match.lastgroup, match[0]))
        position = match.end()
    return tokens


class _Calculator:
    """Recursive descent: sums of products of signed powers of atoms."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.position = 0

    def whole(self) -> Fraction:
        value = self.sum()
        if self.position != len(self.tokens):
            raise _NoValueError
        return value

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def take(self, text: str) -> bool:
        if self.peek()[1] != text:
            return False
        self.position += 1
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise _NoValueError

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek()[1] in ("+", "-"):
            sign = 1 if self.take("+") else -1
            if sign == -1:
                self.position += 1
            value = _bounded(value + sign * self.product())
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while True:
            kind, text = self.peek()
            if kind in ("times", "over"):
                self.position += 1
                factor = self.signed()
                value = _bounded(value * factor if kind == "times" else value / factor)
            elif text in ("(", r"\sqrt", r"\binom"):
                value = _bounded(value * self.power())
            else:
                return value

    def signed(self) -> Fraction:
        if self.take("-"):
            return -self.signed()
        if self.take("+"):
            return self.signed()
        return self.power()

    def power(self) -> Fraction:
        value = self.postfix()
        if self.take("^"):
            braced = self.take("{")
            exponent = self.sum() if braced else self.signed()
            if braced:
                self.expect("}")
            return _power(value, exponent)
        return value

    def postfix(self) -> Fraction:
        value = self.atom()
        if self.take("!"):
            value = _factorial(value)
            # 3!! is 3 to some, and 720 to others.
            if self.peek()[1] == "!":
                raise _NoValueError
        return value

    def atom(self) -> Fraction:
        kind, text = self.peek()
        self.position += 1
        if kind == "number":
            return self.mixed(text)
        if kind == "repeating":
            return _repeating(text)
        if kind == "command":
            return self.command(text)
        if text in ("(", "{", "["):
            value = self.sum()
            self.expect({"(": ")", "{": "}", "[": "]"}[text])
            return value
        raise _NoValueError

    def mixed(self, text: str) -> Fraction:
        r"""A number, and the fraction behind it: 1\frac{1}{2} is a mixed number."""
        value = _number(text)
        if self.peek()[1] != r"\frac":
            return value
        self.position += 1
        part = self.command(r"\frac")
        if value.denominator != 1 or not 0 < part < 1:
            raise _NoValueError
        return value + part

    def command(self, name: str) -> Fraction:
        if name == r"\sqrt":
            degree = 2
            if self.take("["):
                degree = _small(self.sum())
                self.expect("]")
            return _root(self.braced(), degree)
        above, below = self.braced(), self.braced()
        return _bounded(above / below) if name == r"\frac" else _binomial(above, below)

    def braced(self) -> Fraction:
        self.expect("{")
        value = self.sum()
        self.expect("}")
        return value


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise TooLargeError
    return value


def _number(text: str) -> Fraction:
    if len(text) > MAX_BITS // 4:
        raise TooLargeError
    return _bounded(Fraction(text.replace(",", "")))


def _repeating(text: str) -> Fraction:
    plain, _, period = text.partition(r"\overline")
    head, _, tail = plain.partition(".")
    digits = period[1:-1]
    value = Fraction(int(head or "0")) + (Fraction(int(tail), 10 ** len(tail)) if tail else 0)
    return value + Fraction(int(digits), (10 ** len(digits) - 1) * 10 ** len(tail))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        return _power(_root(base, exponent.denominator), Fraction(exponent.numerator))
    if base in (0, 1, -1):
        if base == 0 and exponent <= 0:
            raise _NoValueError
        return base if exponent.numerator % 2 or base != -1 else Fraction(1)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > MAX_BITS:
        raise TooLargeError
    return base**exponent.numerator


def _root(value: Fraction, degree: int) -> Fraction:
    """The root, where it is a fraction itself."""
    if value < 0 or not 2 <= degree <= 64:
        raise _NoValueError
    roots = [_whole_root(part, degree) for part in (value.numerator, value.denominator)]
    return Fraction(roots[0], roots[1])


def _whole_root(value: int, degree: int) -> int:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
    if low**degree != value:
        raise _NoValueError
    return low


def _small(value: Fraction) -> int:
    if value.denominator != 1 or value < 0:
        raise _NoValueError
    if value > MAX_FACTORIAL:
        raise TooLargeError
    return value.numerator


def _factorial(value: Fraction) -> Fraction:
    return _bounded(Fraction(math.factorial(_small(value))))


def _binomial(above: Fraction, below: Fraction) -> Fraction:
    return Fraction(math.comb(_small(above), _small(below)))
