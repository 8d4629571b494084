"""TRL's stepwise supervision, as its PRM trainer reads it and `data_gen.export` writes it.

    {"prompt": "How many?", "completions": ["3 + 4 = 7.", "So 8."], "labels": [true, false]}

Labels are booleans, or numbers: 1 is right, 0 wrong, what lies between is kept as a value without a
hard label. The rows do not say who made the labels: `options.made_by` does. Conversations are not
read: the format has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_gen.importing.fields import Row, refuse, text, texts
from data_gen.importing.imported import RIGHT, WRONG, Imported, Kind, Options, Said

NAME = "trl_stepwise"


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """The solution."""
    steps, labels = texts(row, "completions", where), row.get("labels")
    if not isinstance(labels, list) or len(labels) != len(steps):
        raise refuse(where, f"field 'labels' should hold {len(steps)} labels, found {labels!r:.60}")
    kind: Kind = options.made_by or "human"
    yield Imported(
        statement=text(row, "prompt", where),
        steps=steps,
        said=tuple(_said(label, where) for label in labels),
        source=NAME,
        kind=kind,
        author=NAME,
        finish_reason="unknown",
        where=where,
    )


def _said(label: object, where: str) -> Said:
    if not isinstance(label, bool | int | float) or not 0 <= label <= 1:
        raise refuse(where, f"a label should be true, false, or from 0 to 1, found {label!r:.60}")
    if label in (0, 1):
        return RIGHT if label else WRONG
    return Said(value=float(label), note="soft")
