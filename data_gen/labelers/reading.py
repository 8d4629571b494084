"""Read the counts of a labelled solution anew, without new rollouts.

Counts of successes and trials can be read in several ways, and the best one is not known when the
rollouts are paid for. All functions are pure, and give one value a step, in step order, None where
nothing is known:

    soft               the share of rollouts that reached the answer (Math-Shepherd's soft estimate)
    hard               is the share above a threshold? 0 = any success (Math-Shepherd, OmegaPRM)
    relative_progress  the share after the step in that before it (GenPRM, arXiv 2504.00891)

The last step of a solution is judged by the verdict of its final answer, where there is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from prm.records import LabelledSolution


def soft(labelled: LabelledSolution) -> list[float | None]:
    """Successes / trials of every step, the last one by the verdict."""
    rates = [label.successes / label.trials if label.trials else None for label in labelled.labels]
    if rates and labelled.verdict.label is not None:
        rates[-1] = float(labelled.verdict.label)
    return rates


def first_error_by_threshold(rates: Sequence[float | None], threshold: float) -> int | None:
    """The first step whose success rate is known and at most ``threshold``; None = there is none.

    With the rates of `soft` this judges the last step by the verdict. Steps of unknown rate are
    passed over: `hard` is the reading that says where one of them hides the first error.
    """
    return next((t for t, rate in enumerate(rates) if rate is not None and rate <= threshold), None)


def hard(labelled: LabelledSolution, threshold: float = 0.0) -> list[bool | None]:
    """True up to the first error, False there, None behind it and where it cannot be told.

    Steps without counts before a good one are good: the answer that is still reached from there is
    reached through them. Between the last good step and the first bad one nothing is known.
    """
    rates = soft(labelled)
    first = first_error_by_threshold(rates, threshold)
    end = len(rates) if first is None else first
    num_good = max((t + 1 for t in range(end) if rates[t] is not None), default=0)
    found: list[bool | None] = [True] * num_good + [None] * (len(rates) - num_good)
    if first is not None and num_good == first:
        found[first] = False
    return found


def relative_progress(labelled: LabelledSolution) -> list[float | None]:
    """MC(s_t) / MC(s_{t-1}); the first step's in that of the root's counts.

    Above 1 the step has helped. None where one of the two is not known, and behind a rate of 0,
    from where there is no progress.
    """
    root = labelled.root_successes / labelled.root_trials if labelled.root_trials else None
    rates = soft(labelled)
    return [
        None if rate is None or not before else rate / before
        for before, rate in zip([root, *rates][: len(rates)], rates, strict=True)
    ]


def first_error_of(labels: Sequence[bool | None]) -> dict[str, float]:
    """All belief on the one place that hard labels tell; empty where they tell none."""
    if False in labels:
        return {str(list(labels).index(False)): 1.0}
    return {"none": 1.0} if labels and None not in labels else {}


def with_hard(labelled: LabelledSolution, threshold: float = 0.0) -> LabelledSolution:
    """The same evidence with the hard labels of `hard`, and the first error that follows.

    A stop reason of "budget" stays where the first error is still not known.
    """
    read = hard(labelled, threshold)
    first_error = first_error_of(read)
    reason = "budget" if labelled.stop_reason == "budget" else "undecided"
    if first_error:
        reason = "all_steps_good" if "none" in first_error else "first_error_found"
    return dataclasses.replace(
        labelled,
        labels=tuple(
            dataclasses.replace(label, hard=value)
            for label, value in zip(labelled.labels, read, strict=True)
        ),
        first_error=first_error,
        stop_reason=reason if read else "no_steps",
    )
