"""Own programming problems: statement, hidden tests, and scripted right and wrong programs.

One YAML file a problem beside this module:

    name: last_digit
    level: 1                          # 1 (a few lines) to 4 (an easy problem of a contest)
    statement: ...                    # what a model is shown; no test stands in it
    task: {kind: call, entry: last_digit, tests: [{args: [-45], expected: 5}, ...]}
    right: ...                        # a program in steps that passes all tests
    other_right: ...                  # one that goes another way
    wrong:                            # each replaces one line of `right`, and fails a test
      - {line: "    size = abs(n)", instead: "    size = n"}
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from prm.errors import RecordError
from prm.records import Problem, Split, build
from prm.verifiers.code import CodeTask

SOURCE = "own_code"
FOLDER = Path(__file__).parent
_SHARES: tuple[tuple[float, Split], ...] = ((0.6, "train"), (0.8, "selection"), (1.0, "test"))
"""Upper ends of the hash of an id, by split."""


@dataclasses.dataclass(frozen=True, slots=True)
class Slip:
    """A line of the right program, and what stands there in a wrong one."""

    line: str
    instead: str


@dataclasses.dataclass(frozen=True, slots=True)
class OwnProblem:
    """One file. ``task`` is the reference answer, as JSON."""

    name: str
    level: int
    statement: str
    task: str
    right: str
    other_right: str
    wrong: tuple[Slip, ...]

    def __post_init__(self) -> None:
        """Refuse what could not be used.

        Raises:
            RecordError: the task is none, or a slip is in no line or in several.
        """
        CodeTask.from_reference(self.task)
        for slip in self.wrong:
            count = self.right.split("\n").count(slip.line)
            if count != 1:
                raise RecordError(f"{self.name}: {count} lines of right are {slip.line!r:.80}")

    def with_slip(self, number: int) -> str:
        """The wrong program of that number."""
        slip = self.wrong[number]
        lines = self.right.split("\n")
        return "\n".join(slip.instead if line == slip.line else line for line in lines)

    @property
    def problem(self) -> Problem:
        """The record; the split is a function of the id."""
        name = f"{SOURCE}/{self.name}"
        kind = json.loads(self.task)["kind"]
        return Problem(
            id=name,
            statement=self.statement,
            reference_answer=self.task,
            verifier="code",
            source=SOURCE,
            split=_split(name),
            meta={"level": self.level, "kind": kind},
        )


def own_problems() -> list[OwnProblem]:
    """All of them, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*.yaml"))]


def make_own_problems() -> Iterator[Problem]:
    """The records that `data_gen.problems` writes for the source ``own_code``."""
    return (one.problem for one in own_problems())


def _read(path: Path) -> OwnProblem:
    row = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(row, dict) or not isinstance(row.get("task"), dict):
        raise RecordError(f"{path.name}: expected a problem with a task, found {row!r:.60}")
    for key in ("statement", "right", "other_right"):
        row[key] = str(row.get(key, "")).strip("\n")
    row["statement"] = " ".join(row["statement"].split())
    row["task"] = json.dumps(row["task"])
    own: OwnProblem = build(OwnProblem, row, path.name)
    return own


def _split(problem_id: str) -> Split:
    digest = hashlib.sha256(f"split/{problem_id}".encode()).digest()
    share = int.from_bytes(digest[:6], "big") / 2**48
    return next(split for end, split in _SHARES if share < end)
