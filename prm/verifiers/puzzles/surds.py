"""Exact numbers a + b * sqrt(d): what the roots of quadratic equations are.

Two of them go together when their roots are of the same number; others have no value here.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from fractions import Fraction

from prm.verifiers.expression import MAX_BITS, Expression, NoValue

MAX_RADICAND = 10**9


@dataclasses.dataclass(frozen=True, slots=True)
class Surd:
    """``a + b * sqrt(d)``; d is positive and divisible by no square, and 1 where b is 0."""

    a: Fraction
    b: Fraction = Fraction(0)
    d: int = 1

    def __add__(self, other: Surd) -> Surd:
        """The sum."""
        return _surd(self.a + other.a, self.b + other.b, _common(self, other))

    def __neg__(self) -> Surd:
        """The same with its sign turned."""
        return Surd(-self.a, -self.b, self.d)

    def __mul__(self, other: Surd) -> Surd:
        """The product."""
        d = _common(self, other)
        return _surd(
            self.a * other.a + self.b * other.b * d, self.a * other.b + self.b * other.a, d
        )

    def inverse(self) -> Surd:
        """1 divided by it.

        Raises:
            NoValue: it is zero.
        """
        norm = self.a**2 - self.b**2 * self.d
        if not norm:
            raise NoValue("division_by_zero")
        return _surd(self.a / norm, -self.b / norm, self.d)


def root_of(value: Fraction) -> Surd:
    """The square root.

    Raises:
        NoValue: it is not real, or the number is too large to take squares out of it.
    """
    if value < 0:
        raise NoValue("not_real")
    # The root of p/q is that of p * q, divided by q.
    rest, outside = value.numerator * value.denominator, 1
    whole = math.isqrt(rest)
    if whole**2 == rest:
        return Surd(Fraction(whole, value.denominator))
    if rest > MAX_RADICAND:
        raise NoValue("too_large")
    for factor in range(2, math.isqrt(rest) + 1):
        while rest % factor**2 == 0:
            rest //= factor**2
            outside *= factor
    return Surd(Fraction(0), Fraction(outside, value.denominator), rest)


def surd_value(expression: Expression) -> Surd:
    """The exact value of an expression with square roots.

    Raises:
        NoValue: there is none, it is too large, or it is of another form.
    """
    return _value(expression.tree, expression.source)


def _value(node: ast.expr, source: str) -> Surd:
    if isinstance(node, ast.Constant):
        result = Surd(Fraction(source[node.col_offset : node.end_col_offset]))
    elif isinstance(node, ast.Call):
        inner = _value(node.args[0], source)
        if inner.b:
            raise NoValue("not_a_surd")
        result = root_of(inner.a)
    elif isinstance(node, ast.UnaryOp):
        value = _value(node.operand, source)
        result = -value if isinstance(node.op, ast.USub) else value
    else:
        assert isinstance(node, ast.BinOp)
        result = _apply(node.op, _value(node.left, source), _value(node.right, source))
    if max(part.bit_length() for x in (result.a, result.b) for part in x.as_integer_ratio()) > (
        MAX_BITS
    ):
        raise NoValue("too_large")
    return result


def _apply(operator: ast.operator, left: Surd, right: Surd) -> Surd:
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left + -right
    if isinstance(operator, ast.Mult):
        return left * right
    if isinstance(operator, ast.Div):
        return left * right.inverse()
    return _power(left, right)


def _power(base: Surd, exponent: Surd) -> Surd:
    if exponent.b or exponent.a.denominator != 1:
        raise NoValue("not_a_surd")
    if abs(exponent.a) > 64:
        raise NoValue("too_large")
    result = Surd(Fraction(1))
    for _ in range(abs(int(exponent.a))):
        result = result * base
    return result if exponent.a >= 0 else result.inverse()


def _common(one: Surd, other: Surd) -> int:
    if one.b and other.b and one.d != other.d:
        raise NoValue("not_a_surd")
    return one.d if one.b else other.d


def _surd(a: Fraction, b: Fraction, d: int) -> Surd:
    return Surd(a, b, d) if b else Surd(a)
