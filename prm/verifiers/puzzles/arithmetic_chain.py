"""Chained arithmetic: one expression, one exact value.

    {"expression": "3 + 9 * (4 - 2)"}       21

A reference may also be the value itself, as `data_gen.arithmetic` writes it: ``21``.
"""

from __future__ import annotations

import dataclasses
import random
import re
from fractions import Fraction
from typing import ClassVar

from prm.errors import ConfigError, RecordError
from prm.records import Verdict
from prm.verifiers.expression import NoValue, Unreadable, parse_expression
from prm.verifiers.puzzles.judging import fraction, judge, read_reference
from prm.verifiers.puzzles.making import Puzzle, check_range

_NUMBER = re.compile(r"\s*-?[0-9]+(/[0-9]+)?\s*")
_NAME = re.compile(r"\A\s*[A-Za-z]\s*=")
_OPERATORS = ("+", "-", "*", "/")


@dataclasses.dataclass(frozen=True, slots=True)
class ChainTask:
    """An expression with the usual precedence."""

    expression: str


@dataclasses.dataclass(frozen=True)
class ArithmeticChainVerifier:
    """Right is the exact value, as a whole number, a decimal or a fraction."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer such as ``21``, ``x = 10.5`` or ``21/2``."""
        expected = _expected(reference)
        return judge("arithmetic_chain", answer, lambda text: _fault(text, expected))

    def check_reference(self, reference: str) -> None:
        """Refuse an expression without a value."""
        _expected(reference)


@dataclasses.dataclass(frozen=True)
class ArithmeticChainMaker:
    """Draws expressions."""

    num_operands: tuple[int, ...] = (4,)
    """How many numbers; each problem draws one of these counts."""
    low: int = 1
    """Smallest number."""
    high: int = 20
    """Largest number."""
    operators: tuple[str, ...] = _OPERATORS
    """To draw from: + - * and /."""
    max_depth: int = 1
    """Parentheses within parentheses at most; 0 = none at all."""
    whole_steps: bool = True
    """Every intermediate result is a whole number."""

    verifier: ClassVar[str] = "arithmetic_chain"

    def __post_init__(self) -> None:
        """Refuse settings that no puzzle satisfies."""
        check_range(max(0, self.low), self.high, "arithmetic_chain: low and high")
        if not self.num_operands or not all(2 <= n <= 30 for n in self.num_operands):
            raise ConfigError("arithmetic_chain: num_operands should be 2 to 30")
        if not self.operators or set(self.operators) - set(_OPERATORS):
            raise ConfigError(f"arithmetic_chain: operators should be of {_OPERATORS}")

    def draw(self, rng: random.Random) -> Puzzle | None:
        """An expression with a value."""
        count = rng.choice(self.num_operands)
        text = self._expression(rng, count, self.max_depth)
        try:
            value = parse_expression(text).value(whole_steps=self.whole_steps)
        except NoValue:
            return None
        return Puzzle(
            statement=f"Calculate {text}.",
            reference={"expression": text},
            key=text,
            meta={"num_operands": count, "solution": str(value)},
        )

    def _expression(self, rng: random.Random, count: int, depth: int) -> str:
        """``count`` numbers; parts of two or more may stand in parentheses."""
        parts, left = [], count
        while left:
            size = rng.randint(1, left) if depth and left < count else 1
            inner = self._expression(rng, size, depth - 1) if size > 1 else ""
            parts.append(f"({inner})" if inner else str(rng.randint(self.low, self.high)))
            left -= size
        operators = (rng.choice(self.operators) for _ in parts[1:])
        rest = zip(operators, parts[1:], strict=True)
        return " ".join((parts[0], *(word for pair in rest for word in pair)))


def _expected(reference: str) -> Fraction:
    if _NUMBER.fullmatch(reference):
        return fraction(reference.strip(), "arithmetic_chain: reference")
    task = read_reference(reference, ChainTask, "arithmetic_chain")
    try:
        return parse_expression(task.expression).value()
    except (Unreadable, NoValue) as error:
        raise RecordError(f"arithmetic_chain: no value has {reference!r:.80}") from error


def _fault(text: str, expected: Fraction) -> str | None:
    expression = parse_expression(_NAME.sub("", text))
    if len(expression.numbers) > 2 or expression.operators - {"-", "/"}:
        raise Unreadable(f"not one number: {text!r:.60}")
    if len(expression.numbers) == 2 and "/" not in expression.operators:
        raise Unreadable(f"not one number: {text!r:.60}")
    return None if expression.value() == expected else "other_value"
