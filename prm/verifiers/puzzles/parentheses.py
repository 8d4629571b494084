"""Insert parentheses to make an equation true.

    {"numbers": [1, 2, 3], "operators": ["+", "*"], "target": 9}      (1 + 2) * 3

How hard it is: the fewest pairs of parentheses that do it.
"""

from __future__ import annotations

import dataclasses
import random
import re
from fractions import Fraction
from typing import ClassVar, Literal, TypeVar

from prm.errors import ConfigError, RecordError
from prm.records import Verdict
from prm.verifiers.expression import Expression, Unreadable, parse_expression
from prm.verifiers.puzzles.judging import judge, read_reference
from prm.verifiers.puzzles.making import Puzzle, check_range

MAX_OPERANDS = 10
_OPERATORS = ("+", "-", "*", "/")
_SQUARE = str.maketrans("[]", "()")
K = TypeVar("K")
Kind = Literal["sum", "product", "number"]


@dataclasses.dataclass(frozen=True, slots=True)
class ParenthesesTask:
    """An equation without its parentheses."""

    numbers: tuple[int, ...]
    operators: tuple[str, ...]
    target: int

    def __post_init__(self) -> None:
        """Check the parts against each other.

        Raises:
            RecordError: they do not make an expression.
        """
        is_whole = len(self.operators) == len(self.numbers) - 1
        if not is_whole or not 2 <= len(self.numbers) <= MAX_OPERANDS:
            raise RecordError(
                f"parentheses: {len(self.numbers)} numbers and {len(self.operators)} operators; "
                f"there should be 2 to {MAX_OPERANDS}, and one operator fewer"
            )
        if min(self.numbers) < 0 or max(map(abs, (*self.numbers, self.target))) >= 10**18:
            raise RecordError(f"parentheses: a number is negative or too long: {self.numbers}")
        if unknown := set(self.operators) - set(_OPERATORS):
            raise RecordError(f"parentheses: {sorted(unknown)} are none of {_OPERATORS}")

    @property
    def tokens(self) -> list[str]:
        """The expression without parentheses."""
        pairs = zip(self.operators, self.numbers[1:], strict=True)
        return [str(self.numbers[0]), *(str(one) for pair in pairs for one in pair)]


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """A placement with the fewest pairs of parentheses for its value."""

    num_pairs: int
    text: str


@dataclasses.dataclass(frozen=True)
class ParenthesesVerifier:
    """Any placement is right that keeps numbers and operators and makes the equation true."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer such as ``(1 + 2) * 3``, with or without ``= 9``."""
        task = read_reference(reference, ParenthesesTask, "parentheses")
        return judge("parentheses", answer, lambda text: _fault(text, task))

    def check_reference(self, reference: str) -> None:
        """Refuse an equation that no placement makes true."""
        task = read_reference(reference, ParenthesesTask, "parentheses")
        if task.target not in find_placements(task.numbers, task.operators):
            raise RecordError(f"parentheses: no placement makes {reference!r:.100} true")


@dataclasses.dataclass(frozen=True)
class ParenthesesMaker:
    """Draws equations that need parentheses."""

    num_operands: tuple[int, ...] = (5,)
    """How many numbers; each problem draws one of these counts."""
    low: int = 1
    """Smallest number."""
    high: int = 9
    """Largest number."""
    operators: tuple[str, ...] = ("+", "-", "*")
    """To draw from: + - * and /."""
    min_pairs: int = 1
    """Fewest pairs of parentheses that the equation needs: this many..."""
    max_pairs: int = 2
    """...to this many."""
    max_target: int = 1000
    """Largest result, and smallest with its sign turned."""

    verifier: ClassVar[str] = "parentheses"

    def __post_init__(self) -> None:
        """Refuse settings that no puzzle satisfies."""
        check_range(max(0, self.low), self.high, "parentheses: low and high")
        check_range(self.min_pairs, self.max_pairs, "parentheses: min_pairs and max_pairs")
        counts_fit = all(2 <= count <= MAX_OPERANDS for count in self.num_operands)
        if not self.num_operands or not counts_fit:
            raise ConfigError(f"parentheses: num_operands should be 2 to {MAX_OPERANDS}")
        if not self.operators or set(self.operators) - set(_OPERATORS):
            raise ConfigError(f"parentheses: operators should be of {_OPERATORS}")

    def draw(self, rng: random.Random) -> Puzzle | None:
        """An equation; its target is drawn from what its parentheses can make."""
        count = rng.choice(self.num_operands)
        numbers = tuple(rng.randint(self.low, self.high) for _ in range(count))
        operators = tuple(rng.choice(self.operators) for _ in range(count - 1))
        found = {
            int(value): placement
            for value, placement in find_placements(numbers, operators).items()
            if value.denominator == 1
            and abs(value) <= self.max_target
            and self.min_pairs <= placement.num_pairs <= self.max_pairs
        }
        if not found:
            return None
        target = rng.choice(sorted(found))
        task = ParenthesesTask(numbers, operators, target)
        equation = f"{' '.join(task.tokens)} = {target}"
        return Puzzle(
            statement=f"Insert parentheses to make this equation true: {equation}",
            reference=dataclasses.asdict(task),
            key=equation,
            meta={"num_pairs": found[target].num_pairs, "solution": found[target].text},
        )


def find_placements(
    numbers: tuple[int, ...], operators: tuple[str, ...]
) -> dict[Fraction, Placement]:
    """Every value that parentheses can give the expression, each with its shortest placement."""
    count = len(numbers)
    table: dict[tuple[int, int], dict[tuple[Fraction, Kind], Placement]] = {
        (i, i + 1): {(Fraction(number), "number"): Placement(0, str(number))}
        for i, number in enumerate(numbers)
    }
    for length in range(2, count + 1):
        for begin in range(count - length + 1):
            end = begin + length
            cell: dict[tuple[Fraction, Kind], Placement] = {}
            for middle in range(begin + 1, end):
                left, right = table[begin, middle], table[middle, end]
                _combine(left, operators[middle - 1], right, cell)
            table[begin, end] = cell
    shortest: dict[Fraction, Placement] = {}
    for (value, _), placement in table[0, count].items():
        _keep_shorter(shortest, value, placement)
    return shortest


def _combine(
    left: dict[tuple[Fraction, Kind], Placement],
    operator: str,
    right: dict[tuple[Fraction, Kind], Placement],
    cell: dict[tuple[Fraction, Kind], Placement],
) -> None:
    """Add all that two neighbouring parts give; parentheses are written where they matter."""
    kind: Kind = "sum" if operator in "+-" else "product"
    for (a, left_kind), one in left.items():
        first = _enclosed(one, kind == "product" and left_kind == "sum")
        for (b, right_kind), other in right.items():
            if operator == "/" and not b:
                continue
            matters = right_kind == "sum" and operator != "+"
            second = _enclosed(other, matters or (right_kind == "product" and operator == "/"))
            value = {"+": a + b, "-": a - b, "*": a * b}[operator] if operator != "/" else a / b
            placement = Placement(
                first.num_pairs + second.num_pairs, f"{first.text} {operator} {second.text}"
            )
            _keep_shorter(cell, (value, kind), placement)


def _enclosed(placement: Placement, is_needed: bool) -> Placement:
    return Placement(placement.num_pairs + 1, f"({placement.text})") if is_needed else placement


def _keep_shorter(found: dict[K, Placement], key: K, placement: Placement) -> None:
    if key not in found or placement.num_pairs < found[key].num_pairs:
        found[key] = placement


def _fault(text: str, task: ParenthesesTask) -> str | None:
    expression, stated = read_equation(text, task.target)
    if [token for token in expression.tokens if token not in "()"] != task.tokens:
        return "other_expression"
    return None if stated and expression.value() == task.target else "not_true"


def read_equation(text: str, target: int) -> tuple[Expression, bool]:
    """The expression of an answer; False beside it when the answer states another target.

    Square brackets are parentheses.

    Raises:
        Unreadable: it is neither an expression nor an equation of one and a number.
    """
    sides = [parse_expression(side) for side in _rounded(text).split("=", 3)]
    if len(sides) == 1:
        return sides[0], True
    if len(sides) != 2:
        raise Unreadable(f"more than one equation: {text!r:.80}")
    expression, number = sorted(sides, key=lambda side: len(side.numbers), reverse=True)
    return expression, number.value() == target


def _rounded(text: str) -> str:
    """The text with parentheses for square brackets.

    Raises:
        Unreadable: one kind of bracket is closed by the other.
    """
    brackets = re.sub(r"[^][()]", "", text)
    while brackets != (shorter := re.sub(r"\(\)|\[\]", "", brackets)):
        brackets = shorter
    if "[" in brackets or "]" in brackets:
        raise Unreadable(f"brackets do not match: {text!r:.60}")
    return text.translate(_SQUARE)
