"""What a labelling run was worth: labels by result, tokens by kind, tokens a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prm.ledger import Ledger
from prm.prices import in_dollars
from prm.records import LabelledSolution


def summarise(
    labelled: Iterable[LabelledSolution], spent: Mapping[str, Ledger], num_reused: int
) -> dict[str, Any]:
    """The figures of the closing lines, as they stand in the manifest's notes.

    ``spent``: by kind. ``num_reused``: rollouts that had been paid for before this start.
    """
    results, steps, reasons = Counter[str](), Counter[str](), Counter[str]()
    for one in labelled:
        results[result_of(one)] += 1
        reasons[one.stop_reason] += 1
        for label in one.labels:
            steps["unknown" if label.hard is None else "right" if label.hard else "wrong"] += 1
    return {
        "results": dict(results),
        "steps": dict(steps),
        "stop_reasons": dict(reasons),
        "tokens": {kind: cost.generated_tokens for kind, cost in spent.items()},
        "dollars": sum(cost.dollars for cost in spent.values()),
        "reused": num_reused,
    }


def result_of(labelled: LabelledSolution) -> str:
    """first_error_found, all_good or undecided, as its hard labels say."""
    hard = [label.hard for label in labelled.labels]
    if False in hard:
        return "first_error_found"
    return "all_good" if hard and None not in hard else "undecided"


def summary_lines(notes: Mapping[str, Any]) -> Iterator[str]:
    """The lines under the closing count."""
    summary = notes.get("summary")
    if summary:
        yield _labels(summary)
        if summary["tokens"] or summary["reused"]:
            yield _tokens(summary)
    if budget := notes.get("budget"):
        limits = ", ".join(f"{value:,} {unit}" for unit, value in budget.items() if value)
        yield (
            f"the budget ({limits}) has ended: labels are what is known so far, and what is not "
            "begun is skipped; start again with a larger --budget to go on from here"
        )


def _labels(summary: Mapping[str, Any]) -> str:
    results, steps = Counter(summary["results"]), Counter(summary["steps"])
    return (
        f"labels: {results['first_error_found']:,} first error found, {results['all_good']:,} all "
        f"good, {results['undecided']:,} undecided; steps: {steps['right']:,} right, "
        f"{steps['wrong']:,} wrong, {steps['unknown']:,} unknown"
    )


def _tokens(summary: Mapping[str, Any]) -> str:
    tokens = summary["tokens"]
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tokens.items()))
    parts = [f"tokens written: {by_kind or '0'}"]
    if decided := sum(summary["results"].values()) - summary["results"].get("undecided", 0):
        parts.append(f"{sum(tokens.values()) / decided:,.0f} a decided solution")
    if summary["dollars"]:
        parts.append(in_dollars(summary["dollars"]))
    if summary["reused"]:
        parts.append(f"{summary['reused']:,} rollouts had been paid for before")
    return "; ".join(parts)
