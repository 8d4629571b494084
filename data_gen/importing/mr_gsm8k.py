"""MR-GSM8K (Zeng et al. 2023, arXiv:2312.17080; dvlab-research/MR-GSM8K on GitHub).

    {"uuid": "bd29...", "question": "...", "ground_truth_answer": 5, "question_type": "original",
     "model_output_steps": ["Step 1: ...", ...], "model_output_answer_correctness": "wrong",
     "model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": 1,
     "model_output_solution_first_error_reason": "..."}

Steps are counted **from 1** there, "N/A" where the solution is right; and the solution may be wrong
where its answer is right. The file is one JSON list.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_gen.importing.fields import Row, place, refuse, text, text_or, texts
from data_gen.importing.imported import Imported, Options, up_to

NAME = "mr_gsm8k"
_WORDS = {"correct": True, "right": True, "wrong": False, "incorrect": False}
_PREFIX = "model_output_"


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """The solution. No option changes how it is read."""
    del options
    steps = texts(row, f"{_PREFIX}steps", where)
    yield Imported(
        statement=text(row, "question", where),
        steps=steps,
        said=up_to(_first_error(row, len(steps), where), len(steps)),
        source=NAME,
        kind="human",
        author=NAME,
        row_id=text(row, "uuid", where),
        reference_answer=text_or(row, "ground_truth_answer", where),
        final_is_right=_is_right(row, "answer_correctness", where),
        meta={"question_type": text_or(row, "question_type", where)},
        where=where,
    )


def _is_right(row: Row, name: str, where: str) -> bool:
    word = text(row, _PREFIX + name, where).strip().lower()
    if word not in _WORDS:
        raise refuse(where, f"field {_PREFIX + name!r} should be one of {list(_WORDS)}: {word!r}")
    return _WORDS[word]


def _first_error(row: Row, num_steps: int, where: str) -> int | None:
    """From 0."""
    if _is_right(row, "solution_correctness", where):
        return None
    number = text_or(row, f"{_PREFIX}solution_first_error_step", where).strip()
    if not number.isdecimal() or number == "0":
        raise refuse(where, f"a wrong solution without the number of its first error: {number!r}")
    return place(int(number) - 1, num_steps, where)
