"""Places of a first error: ``"none"`` or the index of a step as a string, and labels from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prm.records import Evidence, LabelledSolution, Opinion, Solution, StepLabel, Verdict

NONE = "none"
"""No step is wrong."""


def place_of(first_error: int | None) -> str:
    """The place that a first error (None: there is none) has in records."""
    return NONE if first_error is None else str(first_error)


def shares(votes: Mapping[str, int]) -> dict[str, float]:
    """The share of each place in the votes; empty without votes."""
    total = sum(votes.values())
    return {place: count / total for place, count in votes.items() if count} if total else {}


def leader(weights: Mapping[str, float], at_least: float) -> str | None:
    """The place with the most weight; None at a tie, or when it has less than ``at_least``."""
    most = max(weights.values(), default=0.0)
    leaders = [place for place, weight in weights.items() if weight == most]
    return leaders[0] if len(leaders) == 1 and most >= at_least and most > 0 else None


def hard_labels(num_steps: int, place: str | None) -> list[bool | None]:
    """Right before the place, wrong there, unknown behind it; all unknown for None."""
    if place is None:
        return [None] * num_steps
    wrong = num_steps if place == NONE else int(place)
    return [True if t < wrong else False if t == wrong else None for t in range(num_steps)]


def prefix_correct(first_error: Mapping[str, float], num_steps: int) -> list[float | None]:
    """P(no error up to and including each step); None where nothing is known."""
    if not first_error:
        return [None] * num_steps
    left, result = 1.0, list[float | None]()
    for step in range(num_steps):
        left -= first_error.get(str(step), 0.0)
        result.append(min(1.0, max(0.0, left)))
    return result


def stop_reason_of(num_steps: int, place: str | None) -> str:
    """The word for a solution that was read to the end."""
    if not num_steps:
        return "no_steps"
    if place is None:
        return "undecided"
    return "all_steps_good" if place == NONE else "first_error_found"


def plain_labels(
    hard: Sequence[bool | None],
    prefixes: Sequence[float | None],
    evidence: Sequence[Sequence[Evidence]],
) -> tuple[StepLabel, ...]:
    """Labels without rollouts: no successes, no trials, no success rate."""
    return tuple(
        StepLabel(step, 0, 0, None, prefix, label, tuple(entries), sum(e.tokens for e in entries))
        for step, (label, prefix, entries) in enumerate(zip(hard, prefixes, evidence, strict=True))
    )


def labelled_by_opinion(
    solution: Solution,
    opinion: Opinion | None,
    verdict: Verdict,
    *,
    labeler: str,
    votes_needed: float,
) -> LabelledSolution:
    """The labels that follow from where one source sees the first error.

    ``votes_needed`` is how many votes a place needs for hard labels; at a tie there are none. A
    solution with a wrong final answer has an error somewhere: votes for none say nothing of it.
    """
    votes = opinion.votes if opinion else {}
    is_wrong = verdict.label is False
    told = {place: n for place, n in votes.items() if n and not (is_wrong and place == NONE)}
    place = leader(told, votes_needed)
    num_steps = len(solution.steps)
    reason = stop_reason_of(num_steps, place)
    if reason == "undecided" and not sum(votes.values()):
        reason = "nothing_said"
    elif reason == "undecided" and leader(votes, votes_needed) == NONE:
        reason = "contradicts_verdict"
    tokens = opinion.tokens if opinion else 0
    # Undecided is no posterior: the votes themselves stand in the opinion.
    first_error = shares(told) if place is not None else {}
    return LabelledSolution(
        solution=solution,
        labels=plain_labels(
            hard_labels(num_steps, place), prefix_correct(first_error, num_steps), [()] * num_steps
        ),
        first_error=first_error,
        verdict=verdict,
        labeler=labeler,
        stop_reason=reason,
        tokens=tokens,
        opinions=(opinion,) if opinion else (),
        tokens_by_kind={opinion.kind: tokens} if opinion and tokens else {},
    )
