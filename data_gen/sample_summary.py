"""What sampling brought: for each strategy its accuracy, variety, cost, and what it alone adds.

One pass over the solutions, those of a problem lying together; memory grows with the number of
problems and of strategies, not with that of solutions.

Accuracy is right answers / all samples: one that could not be checked was not shown to be right,
and is counted apart. Its interval is Wilson's (E. B. Wilson 1927) with the effective number of
samples, p (1 - p) / variance of the ratio estimator over problems: samples of one problem are
alike, and say less than as many of different ones.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from prm.errors import RecordError
from prm.ledger import Ledger
from prm.prices import Price
from prm.protocols import Verifier
from prm.records import Problem, Solution, Status
from prm.verifiers import Verifiers
from prm.verifiers.registry import DEFAULT, check_all

INTERVAL = "95%, Wilson with the effective number of samples, clustered by problem"
_Z = statistics.NormalDist().inv_cdf(0.975)


@dataclasses.dataclass(frozen=True)
class Share:
    """A share and the ends of its 95% interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class StrategySummary:
    """One strategy in one round of refinement, or (``strategy`` "all") everything.

    ``distinct_answers`` is a mean over its problems, ``mean_tokens`` of written tokens over its
    samples. ``num_solved`` problems have a right answer from it, ``num_solved_alone`` from
    nothing else: what pass@N would lose without it. ``cost`` is the usage of its solutions: each
    counts the whole prompt, also where several were asked for at once, and none its parents. Its
    dollars are the strategy's part of the bill, which replies without a step are on too.
    """

    strategy: str
    round: int
    num_problems: int
    num_samples: int
    num_right: int
    num_wrong: int
    num_could_not_tell: int
    accuracy: Share
    distinct_answers: float
    num_solved: int
    num_solved_alone: int
    adds_to_pass_at_n: float
    mean_tokens: float
    num_cut_off: int
    num_loops: int
    saved_tokens: int
    cost: Ledger
    tokens_per_right: float | None
    dollars_per_right: float | None


@dataclasses.dataclass(frozen=True)
class RefinementSummary:
    """Where the refinements of one strategy in one round led, against the answers before.

    ``changes`` maps "wrong -> right" and the like to counts; ``num_without_parent`` refine a
    solution that was not among those of the problem.
    """

    strategy: str
    round: int
    changes: dict[str, int]
    num_without_parent: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """All strategies; ``pass_at_n`` is the share of sampled problems with a right answer."""

    num_problems: int
    num_unsampled_problems: int
    pass_at_n: float
    strategies: tuple[StrategySummary, ...]
    total: StrategySummary
    refinements: tuple[RefinementSummary, ...]
    interval: str = INTERVAL

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def summarise(
    problems: Iterable[Problem],
    solutions: Iterable[Solution],
    price: Price | None = None,
    billed: float | None = None,
    *,
    verifiers: Verifiers = DEFAULT,
) -> Summary:
    """Judge and count; dollars are the solutions' usage at ``price``.

    ``billed``: the dollars that it all did cost. Endpoints may differ in price, and a solution does
    not say who wrote it: each strategy then bears its part as its usage at ``price`` would have it.

    Raises:
        RecordError: a solution's problem is not among ``problems``, the solutions of a problem
            do not lie together, or there are no solutions.
    """
    # Of a problem no more than its verifier and reference: there may be very many.
    waiting = {problem.id: (problem.verifier, problem.reference_answer) for problem in problems}
    counted = _Counts()
    for problem_id, group in groupby(solutions, lambda solution: solution.problem_id):
        if problem_id not in waiting:
            raise RecordError(
                f"problem {problem_id!r}: not among the problems, or its solutions do not lie "
                "together; give the problems that the solutions were made from"
            )
        name, reference = waiting.pop(problem_id)
        counted.add(_judge(verifiers.get(name), reference, list(group)))
    counts = counted.total.counts
    if not counts["samples"]:
        raise RecordError("there are no solutions to sum up")
    price = price or Price()
    if billed is not None:
        price = _as_billed(price, counts["read"], counts["written"], billed)
    return counted.summary(len(waiting), price)


def _as_billed(price: Price, read: int, written: int, billed: float) -> Price:
    """The price at which these tokens cost what was billed; without one all tokens cost alike."""
    usage = Ledger(read, written)
    base = price if price.dollars(usage) else Price(1.0, 1.0)
    scale = billed / base.dollars(usage) if usage.tokens else 0.0
    return Price(base.prompt * scale, base.generated * scale)


class _Judged(NamedTuple):
    """A solution, its verdict, and a number that equal answers share (None = no answer)."""

    solution: Solution
    status: Status
    answer: int | None


class _Tally:
    """Counts, and the sums of squares and products over problems that the interval needs."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.right_squared = self.right_by_size = self.size_squared = 0

    def add(self, judged: Sequence[_Judged], *, is_alone: bool) -> None:
        """Count the samples of one problem; ``is_alone``: nothing else solved it."""
        right, size, counts = sum(one.status == "right" for one in judged), len(judged), self.counts
        self.right_squared += right * right
        self.right_by_size += right * size
        self.size_squared += size * size
        counts.update(problems=1, samples=size, solved=right > 0, alone=is_alone and right > 0)
        counts["distinct"] += len({one.answer for one in judged if one.answer is not None})
        for solution, status, _ in judged:
            counts[status] += 1
            counts[f"ended by {solution.finish_reason}"] += 1
            counts["read"] += solution.usage.prompt_tokens
            counts["written"] += solution.usage.generated_tokens
            counts["saved"] += solution.usage.saved_tokens

    def summary(self, name: str, round_: int, num_problems: int, price: Price) -> StrategySummary:
        counts = self.counts
        cost = price.priced(Ledger(counts["read"], counts["written"]))
        right = counts["right"]
        return StrategySummary(
            strategy=name,
            round=round_,
            num_problems=counts["problems"],
            num_samples=counts["samples"],
            num_right=right,
            num_wrong=counts["wrong"],
            num_could_not_tell=counts["could_not_tell"],
            accuracy=self._accuracy(),
            distinct_answers=counts["distinct"] / counts["problems"],
            num_solved=counts["solved"],
            num_solved_alone=counts["alone"],
            adds_to_pass_at_n=counts["alone"] / num_problems,
            mean_tokens=cost.generated_tokens / counts["samples"],
            num_cut_off=counts["ended by length"],
            num_loops=counts["ended by loop"],
            saved_tokens=counts["saved"],
            cost=cost,
            tokens_per_right=cost.tokens / right if right else None,
            dollars_per_right=cost.dollars / right if right else None,
        )

    def _accuracy(self) -> Share:
        """The ratio of the sums over problems, with its interval."""
        size, num = self.counts["samples"], self.counts["problems"]
        share = self.counts["right"] / size
        # Squared residuals right_i - share * size_i; the sum is not negative but for rounding.
        residual = self.right_squared + share * (share * self.size_squared - 2 * self.right_by_size)
        if num < 2 or share in (0.0, 1.0):
            # No spread to measure: each problem counts once.
            return wilson(share, num)
        variance = max(0.0, residual) * num / (num - 1) / size**2
        effective = share * (1 - share) / variance if variance else math.inf
        return wilson(share, min(max(effective, 1.0), size))


class _Counts:
    """All that is counted, by (round, strategy) and in total."""

    def __init__(self) -> None:
        self.total = _Tally()
        self._tallies: dict[tuple[int, str], _Tally] = defaultdict(_Tally)
        self._changes: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)

    def add(self, judged: list[_Judged]) -> None:
        """Count the samples of one problem."""
        _count(judged, self._tallies)
        _count_changes(judged, self._changes)
        self.total.add(judged, is_alone=True)

    def summary(self, num_unsampled: int, price: Price) -> Summary:
        num_problems = self.total.counts["problems"]
        tallies = sorted(self._tallies.items())
        return Summary(
            num_problems=num_problems,
            num_unsampled_problems=num_unsampled,
            pass_at_n=self.total.counts["solved"] / num_problems,
            strategies=tuple(
                tally.summary(name, number, num_problems, price)
                for (number, name), tally in tallies
            ),
            total=self.total.summary("all", 0, num_problems, price),
            refinements=tuple(
                RefinementSummary(name, number, dict(found), missing)
                for (number, name), found in sorted(self._changes.items())
                for missing in [found.pop("no parent", 0)]
            ),
        )


def wilson(share: float, trials: float) -> Share:
    """Wilson's 95% interval of a share of ``trials`` independent trials, not always whole."""
    scale = 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / trials + (_Z / (2 * trials)) ** 2)
    # At the ends the formula gives exactly 0 and 1; rounding may pass them.
    return Share(share, centre - half if share > 0 else 0.0, centre + half if share < 1 else 1.0)


def _judge(verifier: Verifier, reference: str, group: Sequence[Solution]) -> list[_Judged]:
    """Verdicts, and answers by number: by value where the verifier sees two as equal."""
    answers = list(dict.fromkeys(solution.final_answer for solution in group))
    found = check_all(verifier, [(answer, reference) for answer in answers])
    verdicts = dict(zip(answers, found, strict=True))
    numbers: dict[str, int] = {}
    judged = []
    for solution in group:
        answer = solution.final_answer
        status, text = verdicts[answer].status, (answer or "").strip()
        if text and text not in numbers:
            numbers[text] = _number(text, status, numbers, verifier)
        judged.append(_Judged(solution, status, numbers.get(text)))
    return judged


def _number(text: str, status: Status, numbers: dict[str, int], verifier: Verifier) -> int:
    """0 for every right answer; that of an equal one; or a new one."""
    if status == "right":
        return 0
    if status == "wrong":
        for other, number in numbers.items():
            if number and _are_equal(text, other, verifier):
                return number
    return max(numbers.values(), default=0) + 1


def _are_equal(text: str, other: str, verifier: Verifier) -> bool:
    try:
        return verifier(text, other).status == "right"
    except RecordError:
        return False  # the other one is no answer that this verifier can compare with


def _count(judged: list[_Judged], tallies: dict[tuple[int, str], _Tally]) -> None:
    by_key: dict[tuple[int, str], list[_Judged]] = defaultdict(list)
    for one in judged:
        by_key[one.solution.round, one.solution.strategy].append(one)
    solvers = {key for key, some in by_key.items() if any(one.status == "right" for one in some)}
    for key, some in by_key.items():
        tallies[key].add(some, is_alone=solvers == {key})


def _count_changes(judged: list[_Judged], changes: dict[tuple[int, str], Counter[str]]) -> None:
    before = {one.solution.id: one.status for one in judged}
    for solution, status, _ in judged:
        if solution.parent is not None:
            was = before.get(solution.parent)
            change = f"{was} -> {status}" if was else "no parent"
            changes[solution.round, solution.strategy][change] += 1
