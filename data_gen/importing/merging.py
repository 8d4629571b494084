"""What all annotators say of one solution, as one labelled solution. Nobody is outvoted.

Each source votes for the place where it sees the first error. ``first_error`` holds the shares of
the votes. A step that they judge differently, or that nobody can tell, has no hard label, nor has
any step behind it: a first error there could hide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from data_gen.importing.imported import Imported
from data_gen.public_sets import statement_hash
from prm.errors import RecordError
from prm.records import LabelledSolution, Opinion, Solution, Status, StepLabel, Verdict

DISAGREEMENT = "disagreement"
"""Stop reason of a solution that its annotators judge differently."""


def merge(rows: Sequence[Imported], solution_id: str, problem_id: str) -> LabelledSolution:
    """The labelled solution; all rows are of the same problem with the same steps.

    Raises:
        RecordError: they are not.
    """
    first = rows[0]
    # Line breaks and spaces of a statement do not count, as in its problem's id.
    if len({(statement_hash(one.statement), one.steps) for one in rows}) > 1:
        raise RecordError(f"{first.where}: other steps than {[one.where for one in rows[1:]]}")
    hard, reason = _hard(rows)
    votes = Counter(place for one in rows if (place := one.first_error()) is not None)
    shares = {place: n / votes.total() for place, n in sorted(votes.items())}
    is_by_rollouts = any(one.kind == "rollouts" for one in rows)
    return LabelledSolution(
        solution=_solution(rows, solution_id, problem_id),
        labels=tuple(
            _label(rows, step, hard[step], {} if is_by_rollouts else shares)
            for step in range(len(first.steps))
        ),
        first_error=shares,
        verdict=_verdict(rows),
        labeler=first.source,
        stop_reason=reason,
        completer=first.author if first.kind == "rollouts" else "",
        root_successes=first.root.successes,
        root_trials=first.root.trials,
        opinions=tuple(opinion for one in rows if (opinion := _opinion(one)) is not None),
        chosen_by=first.author,
    )


def _hard(rows: Sequence[Imported]) -> tuple[list[bool | None], str]:
    """The label of each step, and how the reading ended."""
    each = [one.hard_labels() for one in rows]
    hard: list[bool | None] = []
    reason = "all_steps_good" if rows[0].steps else "no_steps"
    for step in range(len(rows[0].steps)):
        said = {labels[step] for labels in each} - {None}
        is_behind = reason in (DISAGREEMENT, "first_error_found", "undecided")
        hard.append(None if is_behind or len(said) != 1 else said.pop())
        if is_behind:
            continue
        if len(said) == 2:
            reason = DISAGREEMENT
        elif hard[-1] is False:
            reason = "first_error_found"
        elif hard[-1] is None:
            reason = "undecided"
    return hard, reason


def _label(
    rows: Sequence[Imported], step: int, hard: bool | None, shares: dict[str, float]
) -> StepLabel:
    """``shares``: of the votes for the first error; empty where they are not about that."""
    said = [one.said[step] for one in rows]
    rates = [one.success_rate for one in said if one.success_rate is not None]
    known = [p for place, p in shares.items() if place == "none" or int(place) > step]
    return StepLabel(
        step=step,
        successes=sum(one.successes for one in said),
        trials=sum(one.trials for one in said),
        success_rate=sum(rates) / len(rates) if rates else None,
        prefix_correct=sum(known) if shares else None,
        hard=hard,
        evidence=tuple(entry for one in rows for entry in one.evidence(step)),
    )


def _solution(rows: Sequence[Imported], solution_id: str, problem_id: str) -> Solution:
    first = rows[0]
    answers = [one.final_answer for one in rows if one.final_answer is not None]
    return Solution(
        id=solution_id,
        problem_id=problem_id,
        steps=first.steps,
        final_answer=answers[0] if answers else None,
        finish_reason=first.finish_reason,
        strategy=f"imported/{first.source}",
        model=first.generator,
        sampling={"row": first.where} | ({"id": first.row_id} if first.row_id else {}),
    )


def _verdict(rows: Sequence[Imported]) -> Verdict:
    """The sets' own verdict; could_not_tell where there is none, or two."""
    said = {one.final_is_right for one in rows} - {None}
    status: Status = "could_not_tell"
    if len(said) == 1:
        status = "right" if said.pop() else "wrong"
    return Verdict(status, rows[0].author)


def _opinion(one: Imported) -> Opinion | None:
    """Of a person, a model or a program; rollouts are counts and hold none."""
    place = one.first_error()
    if one.kind == "rollouts" or place is None:
        return None
    return Opinion(one.kind, {place: 1}, one.annotator or one.author, time=one.time)
