"""Game of 24 and countdown: make a target from given numbers with + - * / and parentheses.

    {"numbers": [4, 7, 8, 8], "target": 24}        (7 - 8 / 8) * 4

In the game of 24 every number is used exactly once; in countdown at most once. Values are exact.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from fractions import Fraction
from typing import ClassVar

from prm.errors import ConfigError, RecordError
from prm.records import Verdict
from prm.verifiers.puzzles.judging import judge, read_reference
from prm.verifiers.puzzles.making import Puzzle, check_range
from prm.verifiers.puzzles.number_solver import results, solve, written
from prm.verifiers.puzzles.parentheses import read_equation

MAX_SOLVED = 4
"""Numbers of a game of 24 whose solutions are looked for."""
_OPERATORS = set("+-*/")
_WHOLE = "Every intermediate result must be a whole number."


@dataclasses.dataclass(frozen=True, slots=True)
class NumbersTask:
    """``allow_fractions``: intermediate results need not be whole numbers."""

    numbers: tuple[int, ...]
    target: int
    allow_fractions: bool = True

    def __post_init__(self) -> None:
        """Refuse what no answer could use.

        Raises:
            RecordError: too few or too many numbers, or negative ones.
        """
        if not 2 <= len(self.numbers) <= 12:
            raise RecordError(f"{len(self.numbers)} numbers; there should be 2 to 12")
        if min(self.numbers) < 0 or max((*self.numbers, abs(self.target))) >= 10**12:
            raise RecordError(f"a number is negative or has more than 12 digits: {self.numbers}")


@dataclasses.dataclass(frozen=True)
class Game24Verifier:
    """Any expression is right that uses every number once and has the target's value."""

    allow_fractions: bool = True
    """False forbids fractions in between for all problems; otherwise each problem says."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer such as ``(7 - 8 / 8) * 4``, with or without ``= 24``."""
        task = read_reference(reference, NumbersTask, "game24")
        whole = not (self.allow_fractions and task.allow_fractions)
        return judge("game24", answer, lambda text: _fault(text, task, whole, uses_all=True))

    def check_reference(self, reference: str) -> None:
        """Refuse numbers that do not make the target; looked for up to four of them."""
        task = read_reference(reference, NumbersTask, "game24")
        fractions = self.allow_fractions and task.allow_fractions
        if len(task.numbers) <= MAX_SOLVED and not solve(task.numbers, task.target, fractions):
            raise RecordError(f"game24: {task.numbers} do not make {task.target}")


@dataclasses.dataclass(frozen=True)
class CountdownVerifier:
    """Any expression is right that uses no number too often and has the target's value."""

    allow_fractions: bool = True
    """False forbids fractions in between for all problems; otherwise each problem says."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer such as ``75 * 4 + 10``, with or without ``= 310``."""
        task = read_reference(reference, NumbersTask, "countdown")
        whole = not (self.allow_fractions and task.allow_fractions)
        return judge("countdown", answer, lambda text: _fault(text, task, whole, uses_all=False))

    def check_reference(self, reference: str) -> None:
        """Refuse what is no such puzzle; whether it can be solved is not looked for."""
        read_reference(reference, NumbersTask, "countdown")


@dataclasses.dataclass(frozen=True)
class Game24Maker:
    """Draws solvable games of 24; the fewer solutions there are, the harder it is."""

    num_numbers: int = 4
    """How many numbers: 3 or 4."""
    low: int = 1
    """Smallest number."""
    high: int = 13
    """Largest number."""
    target: int = 24
    """What to make."""
    min_solutions: int = 1
    """Different solutions (up to the order of sums and products): this many..."""
    max_solutions: int = 1000
    """...to this many."""
    allow_fractions: bool = True
    """Intermediate results need not be whole."""

    verifier: ClassVar[str] = "game24"

    def __post_init__(self) -> None:
        """Refuse settings that no puzzle satisfies."""
        check_range(max(0, self.low), self.high, "game24: low and high")
        check_range(
            max(1, self.min_solutions), self.max_solutions, "game24: min_solutions, max_solutions"
        )
        if not 2 <= self.num_numbers <= MAX_SOLVED:
            raise ConfigError(f"game24: num_numbers should be 2 to {MAX_SOLVED}")

    def draw(self, rng: random.Random) -> Puzzle | None:
        """Numbers with the right number of solutions."""
        numbers = tuple(rng.randint(self.low, self.high) for _ in range(self.num_numbers))
        found = solve(numbers, self.target, self.allow_fractions)
        if not max(1, self.min_solutions) <= len(found) <= self.max_solutions:
            return None
        rule = "" if self.allow_fractions else f" {_WHOLE}"
        return Puzzle(
            statement=(
                f"Make {self.target} from the numbers {_listed(numbers)}, using each of them "
                f"exactly once, with +, -, *, / and parentheses.{rule} Answer with one expression."
            ),
            reference=dataclasses.asdict(NumbersTask(numbers, self.target, self.allow_fractions)),
            key=f"{sorted(numbers)} {self.target}",
            meta={"num_solutions": len(found), "solution": min(found)},
        )


@dataclasses.dataclass(frozen=True)
class CountdownMaker:
    """Draws countdown puzzles around a hidden solution; the more numbers it uses, the harder."""

    num_numbers: int = 6
    """How many numbers are given."""
    num_large: int = 2
    """How many of them are large ones."""
    large: tuple[int, ...] = (25, 50, 75, 100)
    """The large numbers, each at most once; the small ones are 1 to 10, each at most twice."""
    num_used: tuple[int, ...] = (4,)
    """How many numbers the hidden solution uses; a shorter one may exist."""
    low_target: int = 100
    """Smallest target."""
    high_target: int = 999
    """Largest target."""
    allow_fractions: bool = False
    """Intermediate results need not be whole."""

    verifier: ClassVar[str] = "countdown"

    def __post_init__(self) -> None:
        """Refuse settings that no puzzle satisfies."""
        check_range(self.low_target, self.high_target, "countdown: low_target and high_target")
        num_small = self.num_numbers - self.num_large
        if not (0 <= self.num_large <= len(self.large) and 0 <= num_small <= 20):
            raise ConfigError(
                f"countdown: {self.num_large} large and {num_small} small numbers cannot be drawn "
                f"from {len(self.large)} and 20"
            )
        if not self.num_used or not all(2 <= n <= self.num_numbers <= 12 for n in self.num_used):
            raise ConfigError("countdown: num_used should be 2 to num_numbers, at most 12")

    def draw(self, rng: random.Random) -> Puzzle | None:
        """Numbers, and a target that some of them make."""
        small = [number for number in range(1, 11) for _ in range(2)]
        numbers = [
            *rng.sample(self.large, self.num_large),
            *rng.sample(small, self.num_numbers - self.num_large),
        ]
        used = rng.sample(numbers, rng.choice(self.num_used))
        made = _combined(rng, used, whole=not self.allow_fractions)
        if made is None or made[0].denominator != 1:
            return None
        target = int(made[0])
        if not self.low_target <= target <= self.high_target or target in numbers:
            return None
        task = NumbersTask(tuple(numbers), target, self.allow_fractions)
        rule = "" if self.allow_fractions else f" {_WHOLE}"
        return Puzzle(
            statement=(
                f"Make {target} from the numbers {_listed(task.numbers)}, using each of them at "
                f"most once, with +, -, *, / and parentheses.{rule} Answer with one expression."
            ),
            reference=dataclasses.asdict(task),
            key=f"{sorted(numbers)} {target}",
            meta={"num_used": len(used), "solution": made[1].removeprefix("(").removesuffix(")")},
        )


def _combined(
    rng: random.Random, numbers: list[int], *, whole: bool
) -> tuple[Fraction, str] | None:
    """All numbers in one expression, or None where no operation went on with whole numbers."""
    parts = [(Fraction(number), str(number)) for number in numbers]
    while len(parts) > 1:
        one, other = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        choices = [
            (value, written(form, one[1], other[1]))
            for value, form in results(one[0], other[0])
            if value > 0 and (not whole or value.denominator == 1)
        ]
        if not choices:
            return None
        parts.append(rng.choice(choices))
    return parts[0]


def _fault(text: str, task: NumbersTask, whole: bool, *, uses_all: bool) -> str | None:
    expression, stated = read_equation(text, task.target)
    if expression.operators - _OPERATORS:
        return "other_operators"
    used = Counter(expression.numbers)
    given = Counter(map(str, task.numbers))
    if used - given or (uses_all and used != given):
        return "other_numbers"
    value = expression.value(whole_steps=whole)
    return None if stated and value == task.target else "not_true"


def _listed(numbers: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
