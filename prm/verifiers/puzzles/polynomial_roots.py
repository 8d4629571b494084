r"""Polynomial equations: all real roots, or all rational ones, exactly.

    {"coefficients": [2, -3, 0, 1], "roots": "real", "multiplicities": true}   2x^3 - 3x^2 + 1

Answers: ``x = 1 (multiplicity 2), x = -1/2``, ``\pm\sqrt{2}, 3``, "no real roots". A root that is
stated is tested exactly as a + b * sqrt(d); that none is missing is known from Sturm's theorem.
Roots of another form, such as cube roots, are not read: such an answer is could_not_tell.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from fractions import Fraction
from typing import Any, ClassVar, Literal

from prm.errors import ConfigError, RecordError
from prm.records import Verdict
from prm.verifiers.expression import Unreadable, parse_expression
from prm.verifiers.puzzles.judging import fraction, judge, read_reference
from prm.verifiers.puzzles.making import Puzzle, check_range
from prm.verifiers.puzzles.polynomial import (
    Polynomial,
    count_real_roots,
    multiplicity,
    product,
    rational_roots,
    whole,
)
from prm.verifiers.puzzles.surds import Surd, surd_value

Kind = Literal["real", "rational"]
MAX_DEGREE = 12
MAX_COEFFICIENT = 10**6
"""Of the polynomial with whole coefficients: its divisors are gone through."""

_NONE = re.compile(
    r"(?i)(there (are|is) |it has |the equation has )?"
    r"(no (?P<kind>real |rational )?(roots?|solutions?)|none"
    r"|\\emptyset|\\varnothing|\u2205|\\?\{\s*\\?\})"
)
_SET = re.compile(r"(?:[A-Za-z]\s*(?:\\in|\u2208)\s*)?\\?\{(.*?)\\?\}|\[(.*)\]", re.DOTALL)
_BREAKS = re.compile(r"\\\\|[,;\n]|\s(?:and|or)\s|\\text\s*\{\s*(?:and|or)\s*\}")
_NAME = re.compile(r"[A-Za-z](?:_\{?[0-9]+\}?)?\s*=")
_TIMES = re.compile(
    r"\(?\s*(?:(?:with|of)\s+)?(?:multiplicity\s*(?:of\s*)?([0-9]{1,2})"
    r"|(double|twice|repeated|triple)(?:\s+root)?)\s*\)?\s*$",
    re.IGNORECASE,
)
_WORDS = {"double": 2, "twice": 2, "repeated": 2, "triple": 3}
_BOTH_SIGNS = re.compile(r"\\pm(?![A-Za-z])|\u00b1|\+/-")


@dataclasses.dataclass(frozen=True, slots=True)
class RootsTask:
    """``multiplicities``: the answer must say how often each root occurs."""

    coefficients: tuple[Any, ...]
    roots: Kind = "real"
    multiplicities: bool = False

    def __post_init__(self) -> None:
        """Check the coefficients.

        Raises:
            RecordError: they are no polynomial of degree 1 to 12 with a first coefficient.
        """
        if not 2 <= len(self.coefficients) <= MAX_DEGREE + 1:
            raise RecordError(f"polynomial_roots: degree should be 1 to {MAX_DEGREE}")
        if not self.polynomial[0]:
            raise RecordError("polynomial_roots: the first coefficient is 0")
        if max(map(abs, whole(self.polynomial))) > MAX_COEFFICIENT:
            raise RecordError(f"polynomial_roots: a coefficient is over {MAX_COEFFICIENT}")

    @property
    def polynomial(self) -> Polynomial:
        """The coefficients, highest power first."""
        return [fraction(value, "polynomial_roots: coefficient") for value in self.coefficients]


@dataclasses.dataclass(frozen=True)
class PolynomialRootsVerifier:
    """Right is an answer with every root that was asked for, and no other."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer such as ``1, -1/2`` or ``x = 1, x = 2``."""
        task = read_reference(reference, RootsTask, "polynomial_roots")
        return judge("polynomial_roots", answer, lambda text: _fault(text, task))

    def check_reference(self, reference: str) -> None:
        """Refuse what is no polynomial."""
        read_reference(reference, RootsTask, "polynomial_roots")


@dataclasses.dataclass(frozen=True)
class PolynomialRootsMaker:
    """Draws products of linear and quadratic factors."""

    num_rational: tuple[int, ...] = (2, 3)
    """Linear factors, repeated ones counted; each problem draws one of these counts."""
    num_quadratic: tuple[int, ...] = (0, 1)
    """Factors without rational roots: with two irrational ones, or with none at all."""
    max_root: int = 9
    """Largest root or numerator of one, and smallest with its sign turned."""
    max_denominator: int = 1
    """Of the roots; 1 = whole numbers."""
    roots: Kind = "real"
    """real or rational: which roots are asked for."""
    multiplicities: bool = False
    """Ask how often each root occurs."""

    verifier: ClassVar[str] = "polynomial_roots"

    def __post_init__(self) -> None:
        """Refuse settings that no puzzle satisfies."""
        check_range(1, min(self.max_root, self.max_denominator), "polynomial_roots: maxima")
        if not self.num_rational or min(self.num_rational) < 0:
            raise ConfigError("polynomial_roots: num_rational should be counts")
        if not self.num_quadratic or min(self.num_quadratic) < 0:
            raise ConfigError("polynomial_roots: num_quadratic should be counts")
        if not 1 <= max(self.num_rational) + 2 * max(self.num_quadratic) <= MAX_DEGREE:
            raise ConfigError(f"polynomial_roots: the degree should be 1 to {MAX_DEGREE}")

    def draw(self, rng: random.Random) -> Puzzle | None:
        """A polynomial and its roots."""
        found: Counter[str] = Counter()
        polynomial: Polynomial = [Fraction(1)]
        for _ in range(rng.choice(self.num_rational)):
            root = Fraction(
                rng.randint(-self.max_root, self.max_root), rng.randint(1, self.max_denominator)
            )
            found[str(root)] += 1
            polynomial = product(
                polynomial, [Fraction(root.denominator), Fraction(-root.numerator)]
            )
        for _ in range(rng.choice(self.num_quadratic)):
            factor, roots = _quadratic(rng)
            found.update(roots if self.roots == "real" else [])
            polynomial = product(polynomial, factor)
        coefficients = [int(value) for value in polynomial]
        if len(coefficients) < 2 or max(map(abs, coefficients)) > MAX_COEFFICIENT:
            return None
        times = " and how often each of them occurs" if self.multiplicities else ""
        equation = f"{_written(coefficients)} = 0"
        return Puzzle(
            statement=f"Find all {self.roots} roots of {equation}{times}.",
            reference={
                "coefficients": coefficients,
                "roots": self.roots,
                "multiplicities": self.multiplicities,
            },
            key=equation,
            meta={"degree": len(coefficients) - 1, "solution": self._solution(found)},
        )

    def _solution(self, found: Counter[str]) -> str:
        if not found:
            return f"no {self.roots} roots"
        return ", ".join(
            f"{root} (multiplicity {times})" if self.multiplicities else root
            for root, times in sorted(found.items())
        )


def _quadratic(rng: random.Random) -> tuple[Polynomial, list[str]]:
    """A quadratic factor without rational roots, and the real roots that it has."""
    a = rng.randint(-4, 4)
    if rng.random() < 0.5:
        return [Fraction(1), Fraction(-2 * a), Fraction(a * a + rng.randint(1, 9))], []
    d = rng.choice((2, 3, 5, 6, 7, 10, 11))
    factor = [Fraction(1), Fraction(-2 * a), Fraction(a * a - d)]
    return factor, [f"{a} + sqrt({d})", f"{a} - sqrt({d})"]


def _fault(text: str, task: RootsTask) -> str | None:
    """Compare the stated roots with the polynomial."""
    polynomial = task.polynomial
    if match := _NONE.fullmatch(text.strip()):
        kind = (match["kind"] or task.roots).strip()
        # "No rational roots" does not say that there are no real ones.
        answers = kind == "real" or task.roots == "rational"
        return None if answers and not _count(polynomial, kind) else "incomplete"
    stated = _stated(text)
    for root, times in stated.items():
        found = multiplicity(polynomial, root)
        if not found or (task.roots == "rational" and root.b):
            return "not_a_root"
        # Without a word on it, a root is listed once or as often as it occurs.
        if times not in ((found,) if task.multiplicities else (1, found)):
            return "other_multiplicity"
    return None if len(stated) == _count(polynomial, task.roots) else "incomplete"


def _count(polynomial: Polynomial, kind: str) -> int:
    """How many different roots of the kind there are."""
    if kind == "rational":
        return len(rational_roots(polynomial))
    return count_real_roots(polynomial)


def _stated(text: str) -> Counter[Surd]:
    """The roots that an answer states, and how often."""
    if match := _SET.fullmatch(text.strip()):
        text = match[1] or match[2] or ""
    found: Counter[Surd] = Counter()
    for part in _BREAKS.split(text):
        if not part.strip(" .$"):
            continue
        item, times = part.strip(" .$"), 1
        if match := _TIMES.search(item):
            item, times = item[: match.start()], int(match[1] or _WORDS[match[2].lower()])
        item = _NAME.sub("", item, count=1) if _NAME.match(item) else item
        for one in _both(item):
            found[surd_value(parse_expression(one, juxtaposed=True, with_roots=True))] += times
    if not found:
        raise Unreadable(f"no roots: {text!r:.80}")
    return found


def _both(item: str) -> list[str]:
    """Two numbers for one with plus or minus."""
    count = len(_BOTH_SIGNS.findall(item))
    if count > 1:
        raise Unreadable(f"more than one sign that is two: {item!r:.60}")
    return [_BOTH_SIGNS.sub(sign, item) for sign in "+-"] if count else [item]


def _written(coefficients: list[int]) -> str:
    """A polynomial as people write it."""
    terms = []
    for power, value in zip(range(len(coefficients) - 1, -1, -1), coefficients, strict=True):
        if value:
            size = "" if abs(value) == 1 and power else str(abs(value))
            name = "" if not power else "x" if power == 1 else f"x^{power}"
            terms.append(f"{'-' if value < 0 else '+'} {size}{name}")
    text = " ".join(terms).removeprefix("+ ")
    return text.replace("- ", "-", 1) if text.startswith("-") else text
