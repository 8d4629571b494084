r"""Systems of linear equations: one solution, none, or infinitely many.

    {"variables": ["x", "y"], "matrix": [[1, 2], [3, -1]], "constants": [5, "1/2"]}

Answers: ``x = 1, y = -2/3`` in any order, ``(1, -2/3)`` in the order of the variables, or words:
"no solution", "infinitely many solutions". A solution with a parameter is not read.
"""

from __future__ import annotations

import dataclasses
import random
import re
from fractions import Fraction
from typing import Any, ClassVar, Literal, get_args

from prm.errors import ConfigError, RecordError
from prm.records import Verdict
from prm.verifiers.expression import Unreadable, parse_expression
from prm.verifiers.puzzles.judging import fraction, judge, read_reference
from prm.verifiers.puzzles.making import Puzzle, check_range

Kind = Literal["unique", "none", "infinite"]
MAX_VARIABLES = 6

_NONE = re.compile(
    r"(?i)(there (is|are) |the system (has|is) )?"
    r"(no (real )?solutions?|none|inconsistent|\\emptyset|\\varnothing|\u2205)"
)
_INFINITE = re.compile(
    r"(?i)(there (are|is) |the system has )?"
    r"(infinitely many( solutions)?|infinite(ly many)? solutions?|an infinite number of solutions)"
)
# Between two assignments, and in a tuple it is mere space.
_AND = re.compile(
    r"\\(?:text\w*|math\w*|mbox)\s*\{\s*(?:and|,)\s*\}|(?<!\\)\\q?quad(?=\s*[A-Za-z]\s*=)"
)
_CASES = re.compile(r"\\(?:begin|end)\s*\{[a-z*]+\}|&|(?<!\\)\\(?:left|right|quad|qquad|[,;! ])")
_BREAKS = re.compile(r"\\\\|[;\n]|,(?=[\s\\A-Za-z])|\s(?:and|or)\s")
_ASSIGNMENT = re.compile(r"([A-Za-z])\s*=(.*)", re.DOTALL)
_TUPLE = re.compile(r"(?:\(([A-Za-z, ]+)\)\s*=\s*)?\((.*)\)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class SystemTask:
    """``matrix`` times the variables = ``constants``; integers, or strings such as "1/2"."""

    variables: tuple[str, ...]
    matrix: tuple[tuple[Any, ...], ...]
    constants: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Check the sizes and the numbers.

        Raises:
            RecordError: they do not make a system.
        """
        size = len(self.variables)
        if not 1 <= size <= MAX_VARIABLES or len(set(self.variables)) < size:
            raise RecordError(f"linear_system: variables should be 1 to {MAX_VARIABLES} letters")
        if not all(re.fullmatch("[A-Za-z]", name) for name in self.variables):
            raise RecordError(f"linear_system: variables should be letters: {self.variables}")
        if not 1 <= len(self.matrix) == len(self.constants) <= 2 * MAX_VARIABLES:
            raise RecordError("linear_system: as many rows as constants, and at least one")
        if any(len(row) != size for row in self.matrix):
            raise RecordError(f"linear_system: a row has not {size} coefficients")
        _ = self.rows

    @property
    def rows(self) -> list[list[Fraction]]:
        """The augmented matrix."""
        return [
            [fraction(value, "linear_system: coefficient") for value in (*row, constant)]
            for row, constant in zip(self.matrix, self.constants, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class LinearSystemVerifier:
    """Right is the one solution, or the word for there being none or infinitely many."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer such as ``x = 1, y = -2/3``."""
        task = read_reference(reference, SystemTask, "linear_system")
        return judge("linear_system", answer, lambda text: _fault(text, task))

    def check_reference(self, reference: str) -> None:
        """Refuse what is no system."""
        read_reference(reference, SystemTask, "linear_system")


@dataclasses.dataclass(frozen=True)
class LinearSystemMaker:
    """Draws systems with as many equations as variables."""

    num_variables: tuple[int, ...] = (2,)
    """How many variables; each problem draws one of these counts."""
    kinds: tuple[Kind, ...] = ("unique",)
    """To draw from: unique, none, infinite."""
    max_coefficient: int = 9
    """Largest coefficient, and smallest with its sign turned."""
    max_value: int = 12
    """The same for a variable's value, or its numerator."""
    max_denominator: int = 1
    """Of a variable's value; 1 = whole numbers."""

    verifier: ClassVar[str] = "linear_system"

    def __post_init__(self) -> None:
        """Refuse settings that no puzzle satisfies."""
        check_range(1, min(self.max_coefficient, self.max_denominator), "linear_system: maxima")
        if not self.num_variables or not all(2 <= n <= MAX_VARIABLES for n in self.num_variables):
            raise ConfigError(f"linear_system: num_variables should be 2 to {MAX_VARIABLES}")
        if not self.kinds or set(self.kinds) - set(get_args(Kind)):
            raise ConfigError(f"linear_system: kinds should be of {get_args(Kind)}")

    def draw(self, rng: random.Random) -> Puzzle | None:
        """A system of one of the kinds."""
        size, kind = rng.choice(self.num_variables), rng.choice(self.kinds)
        names = "xyzuvw"[:size]
        values = [self._value(rng) for _ in range(size)]
        rows = [self._row(rng, values) for _ in range(size)]
        if kind != "unique":
            rows[-1] = self._dependent(rng, rows[:-1], is_consistent=kind == "infinite")
        if solve_system(rows)[0] != kind or any(not any(row[:-1]) for row in rows):
            return None
        equations = "; ".join(_written(row, names) for row in rows)
        solution = ", ".join(f"{n} = {v}" for n, v in zip(names, values, strict=True))
        words = {"none": "no solution", "infinite": "infinitely many solutions"}
        return Puzzle(
            statement=(
                f"Solve this system of equations: {equations}. Give the value of each variable, "
                "or say that there is no solution, or that there are infinitely many solutions."
            ),
            reference={
                "variables": list(names),
                "matrix": [[int(value) for value in row[:-1]] for row in rows],
                "constants": [int(row[-1]) for row in rows],
            },
            key=equations,
            meta={"kind": kind, "solution": words.get(kind, solution)},
        )

    def _value(self, rng: random.Random) -> Fraction:
        return Fraction(
            rng.randint(-self.max_value, self.max_value), rng.randint(1, self.max_denominator)
        )

    def _row(self, rng: random.Random, values: list[Fraction]) -> list[Fraction]:
        """Whole coefficients and a whole constant that the values satisfy."""
        coefficients = [
            Fraction(rng.randint(-self.max_coefficient, self.max_coefficient)) for _ in values
        ]
        constant = sum((c * v for c, v in zip(coefficients, values, strict=True)), Fraction(0))
        return [value * constant.denominator for value in (*coefficients, constant)]

    def _dependent(
        self, rng: random.Random, rows: list[list[Fraction]], *, is_consistent: bool
    ) -> list[Fraction]:
        """A sum of multiples of the other rows; with another constant it contradicts them."""
        factors = [rng.choice((-2, -1, 1, 2, 3)) for _ in rows]
        row = [
            sum((f * one[i] for f, one in zip(factors, rows, strict=True)), Fraction(0))
            for i in range(len(rows[0]))
        ]
        if not is_consistent:
            row[-1] += rng.choice((-3, -2, -1, 1, 2, 3))
        return row


def solve_system(rows: list[list[Fraction]]) -> tuple[Kind, list[Fraction]]:
    """The kind of an augmented matrix, and its solution where there is just one."""
    rows = [list(row) for row in rows]
    size, rank = len(rows[0]) - 1, 0
    for column in range(size):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        rows[rank] = [value / rows[rank][column] for value in rows[rank]]
        for i, row in enumerate(rows):
            if i != rank and row[column]:
                factor = row[column]
                rows[i] = [a - factor * b for a, b in zip(row, rows[rank], strict=True)]
        rank += 1
    if any(row[-1] for row in rows[rank:]):
        return "none", []
    return ("unique", [row[-1] for row in rows[:rank]]) if rank == size else ("infinite", [])


def _fault(text: str, task: SystemTask) -> str | None:
    kind, solution = solve_system(task.rows)
    text = text.strip()
    said: Kind = "unique"
    if _NONE.fullmatch(text):
        said = "none"
    elif _INFINITE.fullmatch(text):
        said = "infinite"
    values = _values(text, task.variables) if said == "unique" else []
    if said != kind:
        return "other_kind"
    if len(values) < len(solution):
        return "incomplete"
    return None if values == solution else "other_value"


def _values(text: str, names: tuple[str, ...]) -> list[Fraction]:
    """What the answer says of the variables, in their order; of those that it names.

    Raises:
        Unreadable: it names others, or one twice.
    """
    text = _CASES.sub(" ", _AND.sub(" and ", text)).strip().removesuffix(".").strip()
    if match := _TUPLE.fullmatch(text):
        order = match[1].replace(" ", "").split(",") if match[1] else list(names)
        values = match[2].split(",")
        if len(order) != len(values):
            raise Unreadable(f"not {len(order)} values: {text!r:.80}")
        parts = list(zip(order, values, strict=True))
    else:
        parts = [_assignment(part) for part in _BREAKS.split(text) if part.strip(" ,.")]
    found = {name: parse_expression(value).value() for name, value in parts}
    if not parts or len(found) < len(parts) or set(found) - set(names):
        raise Unreadable(f"not a value for each of {names}: {text!r:.80}")
    return [found[name] for name in names if name in found]


def _assignment(text: str) -> tuple[str, str]:
    match = _ASSIGNMENT.fullmatch(text.strip(" ,.$"))
    if match is None:
        raise Unreadable(f"no variable and its value: {text!r:.60}")
    return match[1], match[2]


def _written(row: list[Fraction], names: str) -> str:
    """An equation as people write it."""
    terms = [
        f"{'-' if value < 0 else '+'} {'' if abs(value) == 1 else abs(value)}{name}"
        for value, name in zip(row[:-1], names, strict=True)
        if value
    ]
    left = " ".join(terms).removeprefix("+ ")
    return f"{left.replace('- ', '-', 1) if left.startswith('-') else left} = {row[-1]}"
