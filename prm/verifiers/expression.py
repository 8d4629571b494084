r"""Exact arithmetic that is read from a model's text, without running any of it.

    parse_expression(r"\frac{1}{2} + 3 \times (4 - 1)").value()  ->  Fraction(19, 2)

Numbers, + - * / ^, brackets and signs; LaTeX and typographic signs are written anew in these. The
rest is refused: `Unreadable`. What could take long is refused before it is computed: `NoValue`.
Python's own parser builds the tree, from a text that holds nothing but these signs.

`prm.verifiers.math.numbers` is exact too, and apart on purpose: it reads a value out of an answer
in LaTeX as generously as it can (mixed numbers, percent, units), because `math` goes on with
sympy where it fails. Here the expression itself is judged (its numbers, operators and steps), and
what can be read in two ways is refused: `Unreadable`.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from fractions import Fraction

MAX_LENGTH = 600
"""Characters of an expression."""
MAX_DEPTH = 40
"""Brackets within brackets."""
MAX_SIGNS = 2
"""One behind the other: ``3 - -2``."""
MAX_BITS = 4096
"""Of numerators and denominators, also in between: about 1,200 digits."""

_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|(\*\*|[-+*/^()]|sqrt))", re.ASCII)
_SIGNS = str.maketrans(
    {
        "\u00d7": "*",  # times
        "\u2715": "*",
        "\u2217": "*",
        "\u22c5": "*",
        "\u00b7": "*",
        "\u00f7": "/",  # obelus
        "\u2215": "/",
        "\u2212": "-",  # minus
        "\u2013": "-",  # en dash
        "\u2010": "-",
        "\u2011": "-",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
    }
)
_REWRITES = (
    (re.compile(r"\\(?:left|right|bigl?|bigr|displaystyle)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*([0-9])\s*([0-9])(?![0-9])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*([0-9])|\u221a\s*([0-9]+)"), r"sqrt(\1\2)"),
    (re.compile(r"\u221a\s*\("), "sqrt("),
    (re.compile(r"\\[,;:! ]|~|\\q?quad(?![A-Za-z])"), " "),
    (re.compile(r"(?<=[0-9])\{,\}(?=[0-9]{3})"), ","),
    (re.compile(r"(?<![0-9.,])([0-9]{1,3}(?:,[0-9]{3})+)(?![0-9]|,[0-9])"), None),
)
# A whole number before a fraction makes a mixed number, or a product: nobody can tell.
_MIXED = re.compile(r"[0-9)}]\s*\\frac")
_INNERMOST = (
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
    (re.compile(r"\\?sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
)
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "^",
}


class Unreadable(ValueError):
    """The text is no arithmetic expression of the kind that is read here."""


class NoValue(ArithmeticError):
    """An expression without a value that could be computed: ``reason`` says which."""

    def __init__(self, reason: str) -> None:
        """``reason``: division_by_zero, too_large, not_rational or not_whole."""
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Expression:
    """``tokens`` are numbers, operators and brackets in the order of the text."""

    tokens: tuple[str, ...]
    tree: ast.expr = dataclasses.field(repr=False, compare=False)
    source: str = dataclasses.field(repr=False, compare=False)

    @property
    def numbers(self) -> list[str]:
        """As they were written, in order."""
        return [token for token in self.tokens if token[0].isdigit() or token[0] == "."]

    @property
    def operators(self) -> set[str]:
        """Those that occur; a sign counts as the operator that it looks like."""
        return {token for token in self.tokens if token in set("+-*/^")}

    def value(self, *, whole_steps: bool = False) -> Fraction:
        """The exact value.

        Raises:
            NoValue: there is none, it is too large, or (``whole_steps``) some intermediate result
                is not a whole number.
        """
        return _value(self.tree, self.source, whole_steps)


def parse_expression(
    text: str, *, juxtaposed: bool = False, with_roots: bool = False
) -> Expression:
    """Read a text; ``juxtaposed``: ``2(3+4)``, ``(1)(2)`` and ``2sqrt(3)`` are products.

    ``with_roots``: square roots are read; `Expression.value` has none for them.

    Raises:
        Unreadable: it is not plain arithmetic, or too long, or nested too deeply.
    """
    tokens = _tokens(normalise(text))
    for token, after in zip(tokens, [*tokens[1:], ""], strict=True):
        if token == "sqrt" and not (with_roots and after == "("):
            raise Unreadable(f"a root: {text!r:.60}")
    _check_nesting(tokens)
    if juxtaposed:
        tokens = _with_products(tokens)
    source = " ".join("**" if token == "^" else _plain(token) for token in tokens)
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"no expression: {text!r:.60}") from error
    _check_tree(tree, text)
    return Expression(tuple(tokens), tree, source)


def normalise(text: str) -> str:
    """The text in plain signs: LaTeX, typographic signs and thousands separators are rewritten.

    Raises:
        Unreadable: it is too long, or holds a mixed number.
    """
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"longer than {MAX_LENGTH} characters: {text!r:.60}")
    text = text.translate(_SIGNS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(
            replacement if replacement is not None else lambda match: match[1].replace(",", ""),
            text,
        )
    if _MIXED.search(text):
        raise Unreadable(f"mixed number or product: {text!r:.60}")
    for _ in range(MAX_DEPTH):
        before = text
        for pattern, replacement in _INNERMOST:
            text = pattern.sub(replacement, text)
        if text == before:
            break
    return text


def _tokens(text: str) -> list[str]:
    tokens, end = [], 0
    text = text.rstrip()
    while end < len(text):
        match = _TOKEN.match(text, end)
        if match is None:
            raise Unreadable(f"not arithmetic: {text[end:]!r:.60}")
        tokens.append("^" if match[2] == "**" else match[1] or match[2])
        end = match.end()
    if not tokens:
        raise Unreadable("empty")
    return tokens


def _check_nesting(tokens: list[str]) -> None:
    depth = signs = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        signs = signs + 1 if token in "+-" else 0
        if not 0 <= depth <= MAX_DEPTH or signs > MAX_SIGNS:
            raise Unreadable("brackets do not match, or are nested too deeply; or too many signs")
    if depth:
        raise Unreadable("a bracket is not closed")


def _with_products(tokens: list[str]) -> list[str]:
    """``*`` between a number or bracket and the bracket that follows it.

    Raises:
        Unreadable: behind a division or a power: ``1/2(3)`` may be 1/6 or 3/2.
    """
    written: list[str] = []
    # For each open bracket: whether a division or power stands before it in the same product.
    is_behind = [False]
    for token in tokens:
        if token in ("(", "sqrt") and written and (written[-1] == ")" or _is_number(written[-1])):
            if is_behind[-1]:
                raise Unreadable("a product without a sign behind a division or power")
            written.append("*")
        if token == "(":
            is_behind.append(False)
        elif token == ")":
            is_behind.pop()
        elif token in "+-*/^":
            is_behind[-1] = token in "/^" or (is_behind[-1] and token == "*")
        written.append(token)
    return written


def _is_number(token: str) -> bool:
    return token[0].isdigit() or token[0] == "."


def _plain(token: str) -> str:
    """As Python reads it: no leading zeros."""
    return token.lstrip("0") or "0" if token.isdigit() else token


def _check_tree(tree: ast.expr, text: str) -> None:
    """Raise unless it is plain arithmetic."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            ok = type(node.value) in (int, float)
        elif isinstance(node, ast.BinOp):
            ok = type(node.op) in _OPERATORS
        elif isinstance(node, ast.Call):
            # Only of the one name that there is, so that ``2 (3)`` is none.
            ok = isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords
        elif isinstance(node, ast.Name):
            ok = node.id == "sqrt"
        else:
            ok = isinstance(
                node,
                ast.UnaryOp | ast.USub | ast.UAdd | ast.operator | ast.expr_context,
            )
        if not ok:
            raise Unreadable(f"no expression: {text!r:.60}")


def _value(node: ast.expr, source: str, whole: bool) -> Fraction:
    if isinstance(node, ast.Constant):
        # From the text: the float that Python made of a decimal is not exact.
        result = Fraction(source[node.col_offset : node.end_col_offset])
    elif isinstance(node, ast.UnaryOp):
        value = _value(node.operand, source, whole)
        result = -value if isinstance(node.op, ast.USub) else value
    elif not isinstance(node, ast.BinOp):
        raise NoValue("not_rational")
    else:
        left = _value(node.left, source, whole)
        right = _value(node.right, source, whole)
        result = _apply(_OPERATORS[type(node.op)], left, right)
    if whole and result.denominator != 1:
        raise NoValue("not_whole")
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise NoValue("too_large")
    return result


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "/":
        if not right:
            raise NoValue("division_by_zero")
        return left / right
    return _power(left, right)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise NoValue("not_rational")
    if not base and exponent <= 0:
        raise NoValue("division_by_zero")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    # The powers of 0, 1 and -1 stay small; their exponents may still be long.
    if abs(exponent) * bits > MAX_BITS:
        raise NoValue("too_large")
    return Fraction(base**exponent)
