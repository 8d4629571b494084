"""ProcessBench (Zheng et al. 2024, arXiv:2412.06559; Qwen/ProcessBench on the hub).

    {"id": "gsm8k-0", "generator": "Qwen2-7B-Instruct", "problem": "...", "steps": ["...", ...],
     "final_answer_correct": false, "label": 1}

``label`` is the first wrong step, from 0; -1 = none. Behind it nothing is labelled. Several experts
agreed on each row; the rows do not say who. A set to measure on: its problems are test problems.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_gen.importing.fields import Row, flag, place, text, text_or, texts, whole
from data_gen.importing.imported import Imported, Options, up_to

NAME = "processbench"


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """The solution. No option changes how it is read."""
    del options
    steps = texts(row, "steps", where)
    yield Imported(
        statement=text(row, "problem", where),
        steps=steps,
        said=up_to(place(whole(row, "label", where), len(steps), where), len(steps)),
        source=NAME,
        kind="human",
        author=NAME,
        row_id=text(row, "id", where),
        final_is_right=flag(row, "final_answer_correct", where),
        generator=text_or(row, "generator", where, "unknown"),
        where=where,
    )
