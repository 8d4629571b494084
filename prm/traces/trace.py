"""Text to steps and back: `segment`, `split_trace` and `join_trace`."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

from prm.errors import RecordError
from prm.records import Trace
from prm.steps import split_steps
from prm.traces.blocks import no_cut_mask
from prm.traces.corrections import is_correction
from prm.traces.cuts import find_cuts
from prm.traces.pieces import StepLimits, find_pieces
from prm.traces.programs import split_program
from prm.traces.thinking import find_answer, find_thinking

StepsFrom = Literal["text", "thinking", "answer", "program"]
"""Which part of the text is made into steps.

"text": all of it, a step a line (`prm.steps.split_steps`); such steps need no trace.
"thinking": what lies between the tags; a text without tags is taken as all thinking.
"answer": what follows the thinking; a text without tags is taken as all answer, unless the prompt
ended inside the thinking (``is_open``): then it was cut off before the answer, and has no steps.
"program": the same part, cut at plan lines and blocks of code (`prm.traces.programs`); such steps
are runs of lines, as those of "text".
"""

_DEFAULT = StepLimits()


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A step: ``text[begin:end]``, in characters.

    ``is_correction``: a sentence of the step takes back or checks earlier work; as a rule the
    first, because steps begin there. A correction in a short piece may follow what it corrects.
    """

    begin: int
    end: int
    is_correction: bool


def segment(
    text: str, steps_from: StepsFrom, *, limits: StepLimits = _DEFAULT, is_open: bool = False
) -> list[Span]:
    """The steps in order. Between them, and around them within their part, lie only blanks.

    ``limits`` hold for "thinking" and "answer"; ``is_open`` is `find_thinking`'s.
    """
    if steps_from == "text":
        return _lines_of(split_steps(text), text, 0)
    begin, end = _region(text, steps_from, is_open)
    part = text[begin:end]
    if steps_from == "program":
        begin += len(part) - len(part.lstrip("\n"))
        return _lines_of(split_program(part.strip("\n")), text, begin)
    ranks, corrections = find_cuts(part, no_cut_mask(part))
    spans: list[Span] = []
    for piece in find_pieces(part, ranks, limits):
        length = len(part[piece.begin : piece.end].rstrip())
        next_correction = bisect.bisect_left(corrections, piece.begin)
        has_one = next_correction < bisect.bisect_left(corrections, piece.end)
        spans.append(Span(begin + piece.begin, begin + piece.begin + length, has_one))
    return spans


def split_trace(
    text: str, steps_from: StepsFrom, *, limits: StepLimits = _DEFAULT, is_open: bool = False
) -> tuple[tuple[str, ...], Trace]:
    """The steps, and what lies around them; a text without any step lies ``before`` them."""
    spans = segment(text, steps_from, limits=limits, is_open=is_open)
    if not spans:
        return (), Trace(before=text)
    joints = (text[a.end : b.begin] for a, b in itertools.pairwise(spans))
    trace = Trace(
        before=text[: spans[0].begin],
        joints=tuple(joints),
        after=text[spans[-1].end :],
        corrections=tuple(i for i, span in enumerate(spans) if span.is_correction),
    )
    return tuple(text[span.begin : span.end] for span in spans), trace


def join_trace(steps: Sequence[str], trace: Trace) -> str:
    """The text that was split, byte for byte.

    Raises:
        RecordError: the trace belongs to another number of steps.
    """
    if len(trace.joints) != max(len(steps) - 1, 0):
        raise RecordError(
            f"a trace with {len(trace.joints)} joints cannot join {len(steps)} steps; "
            "is it that of another solution?"
        )
    joints = (*trace.joints, "")[: len(steps)]
    pieces = [part for pair in zip(steps, joints, strict=True) for part in pair]
    return "".join([trace.before, *pieces, trace.after])


def _region(text: str, steps_from: StepsFrom, is_open: bool) -> tuple[int, int]:
    if steps_from == "thinking":
        return find_thinking(text, is_open=is_open) or (0, len(text))
    return find_answer(text, is_open=is_open), len(text)


def _lines_of(steps: Sequence[str], text: str, at: int) -> list[Span]:
    """Where steps lie that are runs of lines, the first of them at ``at``."""
    spans: list[Span] = []
    for step in steps:
        content = at + len(step) - len(step.lstrip())
        spans.append(Span(at, at + len(step), is_correction(text, content)))
        at += len(step) + len("\n")
    return spans
