r"""Math-Shepherd (Wang et al. 2023, arXiv:2312.08935; peiyi9979/Math-Shepherd on the hub).

    {"input": "How many? Step 1: 3 + 4 = 7. ки\nStep 2: The answer is: 7 ки",
     "label": "How many? Step 1: 3 + 4 = 7. +\nStep 2: The answer is: 7 -", "task": "GSM8K"}

``label`` is ``input`` with + or - in place of each tag: whether any of N completions of the prefix
reached the right answer. N and how many did are not told, so this is one trial with the note "hard
estimate", and no success rate. Of the last step it is the verdict of the final answer. A step
behind the first - may have a + again: kept as evidence, not as a label.

A dozen rows have a tag inside the statement; what it says is not a step's, and is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_gen.importing.fields import Row, refuse, text, text_or
from data_gen.importing.imported import SILENT, Imported, Options, Said

NAME = "math_shepherd"
TAG = "ки"
_FIRST_STEP = re.compile(r"\bstep 1:", re.IGNORECASE)
_ANSWER = re.compile(r"The answer is:(.*)", re.DOTALL)


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """The solution, or why there is none. No option changes how it is read."""
    del options
    pieces = text(row, "input", where).split(TAG)
    marks = _marks(pieces, text(row, "label", where), where)
    found = _statement(pieces)
    if found is None:
        yield "no_first_step"
        return
    statement, first, at = found
    steps = [first, *pieces[at + 1 : -1]]
    said = [Said(mark, int(mark), 1, note="hard estimate") for mark in marks[at:]]
    is_finished = not pieces[-1].strip()
    if not is_finished:
        steps.append(pieces[-1])
        said.append(SILENT)
    answer = _ANSWER.search(steps[-1])
    yield Imported(
        statement=statement.strip(),
        steps=tuple(step.strip() for step in steps),
        said=tuple(said),
        source=NAME,
        kind="rollouts",
        author=NAME,
        final_answer=answer[1].strip() if answer else None,
        final_is_right=said[-1].is_right if is_finished else None,
        finish_reason="stop" if is_finished else "cut",
        meta={"task": text_or(row, "task", where)},
        where=where,
    )


def _marks(pieces: list[str], label: str, where: str) -> list[bool]:
    """Of each tag whether a + stands in its place; the texts between must be the same."""
    marks: list[bool] = []
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        mark = label[at : at + 1]
        if mark not in ("+", "-") or label[at - len(piece) : at] != piece:
            raise refuse(
                where,
                f"`label` should be `input` with + or - for {TAG!r}: "
                f"tag {len(marks) + 1} has {mark!r} in its place",
            )
        marks.append(mark == "+")
        at += 1
    if label[at:] != pieces[-1]:
        raise refuse(where, f"`label` goes on with {label[at:]!r:.40} behind the last tag")
    return marks


def _statement(pieces: list[str]) -> tuple[str, str, int] | None:
    """The statement, the first step, and the number of the piece that holds both."""
    for at, piece in enumerate(pieces[:-1]):
        if match := _FIRST_STEP.search(piece):
            before = "".join(pieces[:at]) + piece[: match.start()]
            return before, piece[match.start() :], at
    # A few rows do not number their steps: the statement ends with its question.
    before, mark, first = pieces[0].rpartition("?")
    return (before + mark, first, 0) if mark and first.strip() and len(pieces) > 1 else None
