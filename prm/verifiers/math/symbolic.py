"""Algebra on two expressions, in a worker: it may take for ever, and somebody else watches.

math-verify's parser reads the LaTeX. Two expressions are different when their values differ at a
point that both are defined at, to far more digits than rounding could explain; they are the same
when algebra says so, or when they agree at every probe to 60 digits and more. What is left goes to
math-verify's own comparison, whose "no" is not taken for a proof.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify

from prm.verifiers.math.finding import DIFFERENT, SAME, Finding, unsure

_NORMAL = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none"
)
# Probes: no integer, nothing that makes a usual term vanish, and both signs.
_PROBES = ("1.3741", "0.6180", "2.7443", "-1.4142", "-0.3819")
_DIGITS = 60
_ZERO = sympy.Float("1e-45")
# It warns that its time limit is off; ours is the process's.
logging.getLogger("math_verify").setLevel(logging.ERROR)


class SympyAlgebra:
    """Compares expressions with a relative ``tolerance``; 0 = exact."""

    def __init__(self, tolerance: float = 0.0) -> None:
        """``tolerance`` holds for expressions without unknowns."""
        self.tolerance = tolerance

    def __call__(self, reference: str, answer: str) -> Finding:
        """Equal, different or unsure ("unparsed", "undecided")."""
        if reference == answer:
            return SAME
        expected, found = parse(reference), parse(answer)
        if expected is None or found is None:
            return unsure("unparsed")
        if isinstance(expected, sympy.Expr) and isinstance(found, sympy.Expr):
            return self._expressions(expected, found)
        if isinstance(expected, sympy.core.relational.Relational) and isinstance(
            found, sympy.core.relational.Relational
        ):
            return _relations(expected, found)
        return _by_math_verify(expected, found)

    def _expressions(self, expected: Any, found: Any) -> Finding:
        if expected == found:
            return SAME
        difference = expected - found
        if difference.is_zero:
            return SAME
        if difference.is_Rational and not self.tolerance:
            return DIFFERENT
        symbols = sorted(expected.free_symbols | found.free_symbols, key=str)
        if not symbols:
            return self._constants(expected, difference)
        finding = _probe(expected, found, symbols)
        return _renamed(expected, found) if finding == DIFFERENT else finding

    def _constants(self, expected: Any, difference: Any) -> Finding:
        size, error = _size(expected), _size(difference)
        if size is None or error is None:
            return unsure("undecided")
        if error <= _ZERO * (1 + size):
            simple = sympy.simplify(difference)
            return Finding(not (simple.is_Rational and simple != 0))
        return Finding(bool(error <= self.tolerance * size))


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Any:
    """The expression, relation or set that the LaTeX states, or None."""
    latex = normalize_latex(text, config=_NORMAL)
    try:
        parsed = latex2sympy(latex, is_real=None, convert_degrees=False, normalization_config=None)
    # The grammar raises plain Exception, and sympy whatever an odd expression makes it raise.
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        return None
    return _exact(parsed)


def _exact(parsed: Any) -> Any:
    """Decimals as the fractions that they are, i as the imaginary unit."""
    if not hasattr(parsed, "atoms"):
        return None
    changes = {one: sympy.Rational(str(one)) for one in parsed.atoms(sympy.Float)}
    for symbol in parsed.free_symbols:
        if symbol.name == "i":
            changes[symbol] = sympy.I
    exact = parsed.xreplace(changes) if changes else parsed
    return exact.doit(deep=True) if isinstance(exact, sympy.Expr) else exact


def _size(value: Any) -> Any:
    """The absolute value to many digits, or None where it has none."""
    number = sympy.Abs(value).evalf(_DIGITS, maxn=400) if value != 0 else sympy.Float(0)
    return number if number.is_Float and number.is_finite else None


def _probe(expected: Any, found: Any, symbols: list[Any]) -> Finding:
    """Compare at points; at the negative ones only agreement says something."""
    num_equal, is_different_below = 0, False
    for start, first in enumerate(_PROBES):
        values = {
            symbol: sympy.Rational(first) * (1 + sympy.Rational(index * (start + 2), 17))
            for index, symbol in enumerate(symbols)
        }
        size = _size(expected.subs(values))
        error = _size((expected - found).subs(values))
        if size is None or error is None:
            continue
        if error <= _ZERO * (1 + size):
            num_equal += 1
        elif first.startswith("-"):
            is_different_below = True
        else:
            return DIFFERENT
    if is_different_below:
        return unsure("domain") if num_equal else DIFFERENT
    return SAME if num_equal >= 2 else unsure("undecided")


def _renamed(expected: Any, found: Any) -> Finding:
    """Whether two different expressions differ in the names of their unknowns only."""
    names, others = (sorted(one.free_symbols, key=str) for one in (expected, found))
    if len(names) == len(others) == 1 and _is_one_family(expected, found, names[0], others[0]):
        return unsure("undecided")
    if names == others or len(names) != len(others):
        return DIFFERENT
    renamed = found.xreplace(dict(zip(others, names, strict=True)))
    return unsure("names") if _probe(expected, renamed, names).equal else DIFFERENT


def _is_one_family(expected: Any, found: Any, name: Any, other: Any) -> bool:
    """Whether both run through the same angles when the unknown runs through the integers."""
    if not {name.name, other.name} <= {"k", "n", "m"}:
        return False
    slopes = sympy.diff(expected, name), sympy.diff(found, other)
    if any(slope.free_symbols or slope == 0 for slope in slopes):
        return False
    shift = sympy.simplify((expected.subs(name, 0) - found.subs(other, 0)) / slopes[0])
    is_angle = slopes[0].has(sympy.pi) or slopes[0] % 90 == 0
    is_same_step = sympy.simplify(abs(slopes[0]) - abs(slopes[1])) == 0
    return bool(is_angle and is_same_step and shift.is_integer)


def _relations(expected: Any, found: Any) -> Finding:
    """Equations are the same when one is a multiple of the other."""
    sides = [one.lhs - one.rhs for one in (expected, found)]
    if not all(isinstance(side, sympy.Expr) for side in sides):
        return _by_math_verify(expected, found)
    ratio = sympy.cancel(sides[0] / sides[1]) if sides[1] != 0 else sympy.nan
    if ratio.is_number and ratio.is_finite and ratio.is_nonzero:
        is_same_way = ratio.is_positive or ratio.is_negative
        if isinstance(expected, sympy.Eq) and isinstance(found, sympy.Eq):
            return SAME
        if is_same_way:
            other = found if ratio.is_positive else found.reversedsign
            return Finding(type(other) is type(expected))
    if isinstance(expected, sympy.Eq) and isinstance(found, sympy.Eq):
        return _polynomials(*sides)
    return _by_math_verify(expected, found)


def _polynomials(first: Any, second: Any) -> Finding:
    """Two polynomials vanish in the same places when their square-free parts are multiples."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    if not all(side.is_polynomial(*symbols) for side in (first, second)) or not symbols:
        return unsure("undecided")
    parts = [sympy.Poly(sympy.sqf_part(side), *symbols).monic() for side in (first, second)]
    return Finding(parts[0] == parts[1])


def _by_math_verify(expected: Any, found: Any) -> Finding:
    is_same = verify(
        expected, found, timeout_seconds=None, allow_set_relation_comp=True, raise_on_error=False
    )
    return SAME if is_same else unsure("undecided")
