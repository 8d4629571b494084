"""Rows of labelled sets in one shape, whatever set they come from.

    {"id": "processbench-gsm8k-3", "problem_id": "e791...", "source": "processbench/gsm8k",
     "generator": "Qwen2-1.5B-Instruct", "problem": "...", "answer": "25", "steps": ["...", ...],
     "first_error": 1, "final_answer_correct": false, "step_labels": [1, 0], "meta": {...}}

``first_error`` counts from 0, -1 = none. ``step_labels`` (1 right, 0 not), where there are any, are
kept as evidence behind the first error too; a 0 in a solution without an error is a step without
use, neutral. ``answer`` and ``final_answer_correct`` may be null: not known.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_gen.importing.fields import Row, flag, place, refuse, text, text_or, texts, whole
from data_gen.importing.imported import RIGHT, WRONG, Imported, Kind, Options, Said, up_to

NAME = "step_labels"

# Who made the labels, where that is not people: docs/data.md.
_MADE_BY: dict[str, Kind] = {
    "prmbench": "judge",  # errors put in by GPT-4o
    "parc": "judge",  # by the authors with the help of models
    "bigbench_mistake/dyck_languages": "program",
}


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """The solution."""
    source, steps = text(row, "source", where), texts(row, "steps", where)
    name, row_id = source.partition("/")[0], text(row, "id", where)
    where = f"{where}, id {row_id!r}"
    first = place(whole(row, "first_error", where), len(steps), where)
    kind: Kind = _MADE_BY.get(source) or _MADE_BY.get(name) or "human"
    yield Imported(
        statement=text(row, "problem", where),
        steps=steps,
        said=_said(row, first, len(steps), options, where),
        source=name,
        kind=kind,
        author=source,
        row_id=row_id,
        reference_answer=text_or(row, "answer", where),
        final_is_right=flag(row, "final_answer_correct", where),
        generator=text_or(row, "generator", where, "unknown"),
        meta={"set": source, "problem_id": text_or(row, "problem_id", where)},
        where=where,
    )


def _said(
    row: Row, first: int | None, num_steps: int, options: Options, where: str
) -> tuple[Said, ...]:
    labels = row.get("step_labels")
    if labels is None:
        return up_to(first, num_steps)
    is_list = isinstance(labels, list) and len(labels) == num_steps
    if not is_list or any(label not in (0, 1) for label in labels):
        raise refuse(where, f"step_labels should be {num_steps} of 0 and 1, found {labels!r:.60}")
    if first is None:
        return tuple(RIGHT if label else options.neutral_said() for label in labels)
    if labels[: first + 1] != [1] * first + [0]:
        raise refuse(where, f"first_error {first} is not the first 0 of step_labels {labels}")
    return tuple(RIGHT if label else WRONG for label in labels)
