"""What a format gives: a solution, and what one source says of each of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prm.records import Evidence

Kind = Literal["human", "judge", "program", "rollouts"]
Reading = Literal["good", "bad", "unknown"]


@dataclasses.dataclass(frozen=True)
class Options:
    """How the labels of a format are read."""

    neutral: Reading = "good"
    """Steps rated neutral (PRM800K's 0) are right, wrong, or get no hard label; the rating itself
    is kept in any case. Qwen takes them as good, TRL's converter as bad."""
    alternatives: bool = True
    """PRM800K: each rated step that the labeler did not go on with ends a solution of its own."""
    made_by: Literal["", "human", "judge", "program", "rollouts"] = ""
    """trl_stepwise, whose rows do not tell: who made the labels. Must be given for that format."""
    min_success_rate: float = 0.0
    """math_aps: a prefix is good above this rate, wrong at 0, else undecided. 0 = any success."""
    rollouts_per_prefix: int = 0
    """math_aps, whose rows keep rates only: rollouts behind each rate; 0 = not known, and then
    there are no counts."""

    def neutral_said(self) -> Said:
        """What a neutral rating says."""
        if self.neutral == "unknown":
            return Said(value=0.0, note="neutral")
        is_good = self.neutral == "good"
        return Said(is_good, int(is_good), 1, 0.0, "neutral")


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What a source says of one step; ``is_right`` None: it was not asked, or cannot tell.

    ``successes`` of ``trials``, ``value`` and ``note`` are those of the `Evidence`.
    """

    is_right: bool | None = None
    successes: int = 0
    trials: int = 0
    value: float | None = None
    note: str = ""
    success_rate: float | None = None

    @property
    def is_silent(self) -> bool:
        """Nothing is said at all."""
        return self == Said()


RIGHT = Said(True, 1, 1)
WRONG = Said(False, 0, 1)
SILENT = Said()


@dataclasses.dataclass(frozen=True, slots=True)
class Imported:
    """A solution as one source labels it, and the problem that it is of.

    ``final_is_right`` is the set's own verdict of the final answer. ``annotator`` and ``time`` are
    a person's. ``finish_reason`` is "cut" where the set holds only the beginning of a solution.
    """

    statement: str
    steps: tuple[str, ...]
    said: tuple[Said, ...]
    source: str
    kind: Kind
    author: str
    row_id: str = ""
    reference_answer: str = ""
    final_answer: str | None = None
    final_is_right: bool | None = None
    finish_reason: str = "stop"
    generator: str = "unknown"
    annotator: str | None = None
    time: str | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    root: Said = SILENT
    """Of no step at all."""
    where: str = ""

    def hard_labels(self) -> list[bool | None]:
        """True up to the first step said to be wrong (False); behind it nothing is known."""
        hard: list[bool | None] = []
        for said in self.said:
            hard.append(None if False in hard else said.is_right)
        return hard

    def first_error(self) -> str | None:
        """``"none"``, the step's index, or None: a step that might be it is not judged."""
        for step, said in enumerate(self.said):
            if not said.is_right:
                return None if said.is_right is None else str(step)
        return "none" if self.said else None

    def evidence(self, step: int) -> tuple[Evidence, ...]:
        """What is said of a step, if anything is."""
        said = self.said[step]
        if said.is_silent:
            return ()
        entry = Evidence(
            kind=self.kind,
            successes=said.successes,
            trials=said.trials,
            completer=self.author,
            annotator=self.annotator,
            time=self.time,
            value=said.value,
            note=said.note,
        )
        return (entry,)


def up_to(first_error: int | None, num_steps: int) -> tuple[Said, ...]:
    """All steps are right (None), or those before the first error are, and behind it is silence."""
    if first_error is None:
        return (RIGHT,) * num_steps
    silence = (SILENT,) * (num_steps - first_error - 1)
    return (*(RIGHT,) * first_error, WRONG, *silence)


def reason_to_skip(one: Imported) -> str | None:
    """Why it is no solution that can be labelled, in one word."""
    if not one.statement.strip():
        return "no_statement"
    if not one.steps:
        return "no_steps"
    return "blank_step" if _has_blank(one.steps) else None


def _has_blank(steps: Sequence[str]) -> bool:
    return any(not step.strip() for step in steps)
