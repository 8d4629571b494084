"""Solutions whose first wrong step people have marked, as records."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_gen.labelers.places import (
    hard_labels,
    place_of,
    plain_labels,
    prefix_correct,
    stop_reason_of,
)
from prm.protocols import Rollout
from prm.records import LabelledSolution, Opinion, Problem, Solution, Status, Verdict

STATUS: dict[bool | None, Status] = {True: "right", False: "wrong", None: "could_not_tell"}


class NoRollouts:
    """What is needed where none are asked for."""

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """None can be had."""
        return [[] for _ in requests]


@dataclasses.dataclass(frozen=True)
class Marked:
    """A solution, and where people see its first error."""

    problem: Problem
    solution: Solution
    place: str
    verdict: Verdict


def load(data: Path, name: str, most: int | None) -> list[Marked]:
    """The solutions of a set, or ``most`` of them drawn at random; those without steps are none."""
    path = data / "step_labels" / f"{name}.jsonl"
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = [_marked(row) for row in rows if row["steps"]]
    return found if most is None else random.Random(0).sample(found, min(most, len(found)))


def _marked(row: dict[str, Any]) -> Marked:
    problem = Problem(
        id=row["problem_id"],
        statement=row["problem"],
        reference_answer=row["answer"] or "",
        verifier="math",
        source=row["source"],
        split="test",
    )
    solution = Solution(
        id=row["id"],
        problem_id=problem.id,
        steps=tuple(row["steps"]),
        final_answer=None,
        finish_reason="stop",
        strategy="unknown",
        model=row["generator"],
    )
    place = place_of(None if row["first_error"] < 0 else row["first_error"])
    verdict = Verdict(STATUS[row["final_answer_correct"]], "people")
    return Marked(problem, solution, place, verdict)


def by_people(rows: Sequence[Marked]) -> list[LabelledSolution]:
    """People's marks as labels."""
    return [_by_people(row) for row in rows]


def _by_people(row: Marked) -> LabelledSolution:
    num_steps, first_error = len(row.solution.steps), {row.place: 1.0}
    return LabelledSolution(
        solution=row.solution,
        labels=plain_labels(
            hard_labels(num_steps, row.place),
            prefix_correct(first_error, num_steps),
            [()] * num_steps,
        ),
        first_error=first_error,
        verdict=row.verdict,
        labeler="people",
        stop_reason=stop_reason_of(num_steps, row.place),
        opinions=(Opinion("human", {row.place: 1}, "people"),),
    )
