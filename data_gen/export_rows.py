"""A labelled solution as a row of a table: TRL's, and the whole record with fixed columns.

Mappings with free keys (votes, places of the first error) become lists of pairs: a column of a
table has the same fields in every row. How a solution was sampled (sampling, usage, seed, endpoint,
log-probability, trace, round), what its verdict gives as reason, detail, tests and seconds, and a
problem's verifier and meta are left out: the stores have them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from prm.records import LabelledSolution, Problem


def trl_row(one: LabelledSolution, problem: Problem) -> tuple[dict[str, Any], Counter[str]]:
    """The row, and how many steps are left out, by reason: behind the first error, or undecided."""
    labels: list[bool] = []
    left_out: Counter[str] = Counter()
    for label in one.labels:
        if label.hard is None or False in labels:
            is_behind = False in labels
            reason = "behind_first_error" if is_behind else "undecided_or_behind_it"
            left_out[reason] += len(one.labels) - len(labels)
            break
        labels.append(label.hard)
    completions = list(one.solution.steps[: len(labels)])
    row = {"prompt": problem.statement, "completions": completions, "labels": labels}
    return row, left_out


def whole_row(one: LabelledSolution, problem: Problem) -> dict[str, Any]:
    """The solution with all labels and their evidence, with the columns of `features`."""
    solution = one.solution
    return {
        "problem_id": problem.id,
        "solution_id": solution.id,
        "source": problem.source,
        "problem": problem.statement,
        "reference_answer": problem.reference_answer,
        "steps": list(solution.steps),
        "final_answer": solution.final_answer,
        "finish_reason": solution.finish_reason,
        "strategy": solution.strategy,
        "model": solution.model,
        "parent": solution.parent,
        "verdict": one.verdict.status,
        "verdict_by": one.verdict.backend,
        "labeler": one.labeler,
        "completer": one.completer,
        "decoder": one.decoder,
        "stop_reason": one.stop_reason,
        "chosen_by": one.chosen_by,
        "propensity": one.propensity,
        "root_successes": one.root_successes,
        "root_trials": one.root_trials,
        "tokens": one.tokens,
        "tokens_by_kind": _pairs(one.tokens_by_kind, "kind", "tokens"),
        "first_error": _pairs(one.first_error, "place", "probability"),
        "labels": [dataclasses.asdict(label) for label in one.labels],
        "opinions": [
            dataclasses.asdict(opinion) | {"votes": _pairs(opinion.votes, "place", "votes")}
            for opinion in one.opinions
        ],
    }


def features(datasets: Any) -> Any:
    """The columns of `whole_row`, as `datasets.Features`."""
    text, count = datasets.Value("string"), datasets.Value("int64")
    number, flag = datasets.Value("float64"), datasets.Value("bool")
    evidence = {
        "kind": text, "successes": count, "trials": count, "completer": text, "tokens": count,
        "right_continuation": text, "annotator": text, "time": text, "value": number, "note": text,
    }  # fmt: skip
    label = {
        "step": count, "successes": count, "trials": count, "success_rate": number,
        "prefix_correct": number, "hard": flag, "evidence": [evidence], "tokens": count,
    }  # fmt: skip
    opinion = {
        "kind": text, "votes": [{"place": text, "votes": count}], "author": text,
        "tokens": count, "time": text, "note": text,
    }  # fmt: skip
    texts = (
        "problem_id", "solution_id", "source", "problem", "reference_answer", "final_answer",
        "finish_reason", "strategy", "model", "parent", "verdict", "verdict_by", "labeler",
        "completer", "decoder", "stop_reason", "chosen_by",
    )  # fmt: skip
    return datasets.Features(
        {
            **dict.fromkeys(texts, text),
            **dict.fromkeys(("root_successes", "root_trials", "tokens"), count),
            "propensity": number,
            "steps": [text],
            "tokens_by_kind": [{"kind": text, "tokens": count}],
            "first_error": [{"place": text, "probability": number}],
            "labels": [label],
            "opinions": [opinion],
        }
    )


def _pairs(values: dict[str, Any], key: str, value: str) -> list[dict[str, Any]]:
    return [{key: k, value: v} for k, v in values.items()]
