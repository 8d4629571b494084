"""The sampled solutions of one split, with verdicts and exact truth where it is known."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from prm.errors import RecordError
from prm.evaluation import step_truth
from prm.records import Problem, Solution
from prm.store import read_records, unique
from prm.verifiers import Verifiers
from prm.verifiers.registry import DEFAULT


@dataclasses.dataclass(frozen=True, slots=True)
class ProblemSamples:
    """A problem and its solutions, in the order in which they were sampled."""

    problem: Problem
    solutions: tuple[Solution, ...]
    right: tuple[bool, ...]
    """Whether each final answer is right; one that could not be checked was not shown right."""

    @property
    def answers(self) -> list[str | None]:
        """The final answers."""
        return [solution.final_answer for solution in self.solutions]

    @property
    def has_truth(self) -> bool:
        """Whether exact step truth can be computed for this problem."""
        return "operands" in self.problem.meta

    def first_errors(self) -> list[int | None]:
        """The first wrong step of each solution, by the exact truth."""
        return [step_truth.first_error(self.problem.meta, s.steps) for s in self.solutions]


def read_samples(
    problems: str, solutions: str, split: str, verifiers: Verifiers = DEFAULT
) -> list[ProblemSamples]:
    """All problems of a split with their solutions.

    A problem all of whose samples were empty has no solutions: it counts as not solved.

    Raises:
        RecordError: there is no problem of this split, or no solution of any.
    """
    groups: dict[str, list[Solution]] = defaultdict(list)
    for solution in unique(read_records(solutions, Solution), solutions):
        groups[solution.problem_id].append(solution)
    wanted = [
        problem
        for problem in unique(read_records(problems, Problem), problems)
        if problem.split == split
    ]
    samples = _judge([(problem, groups.get(problem.id, [])) for problem in wanted], verifiers)
    if not samples:
        raise RecordError(f"{problems}: no problem has split {split!r}")
    if not any(group.solutions for group in samples):
        raise RecordError(f"{solutions}: no solution of a {split} problem; sample them first")
    return samples


def _judge(
    groups: Sequence[tuple[Problem, Sequence[Solution]]], verifiers: Verifiers
) -> list[ProblemSamples]:
    """All answers are checked in one call."""
    items = [
        (problem, solution.final_answer) for problem, solutions in groups for solution in solutions
    ]
    verdicts = iter(verifiers.check_many(items))
    return [
        ProblemSamples(
            problem, tuple(solutions), tuple(next(verdicts).label is True for _ in solutions)
        )
        for problem, solutions in groups
    ]
