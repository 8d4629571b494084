"""Critiques as text and back. The reader is strict: the whole text is legal, or it is not read.

A search for something like ``First error: 2`` in broken text is a guess; a critique that cannot
be read is could-not-tell, with a status that says why:

    ok                     the whole text is a critique
    no_steps               there was nothing to judge
    empty                  no text
    truncated              the text was cut at the token limit
    loop                   ... while it repeated itself
    bad_line               a line that is neither a step's nor the last one
    index_gap              a step's number is not the next one
    out_of_range           a number beyond the solution's steps
    goes_on_after_wrong    a step is judged after the first wrong one
    wrong_number_of_steps  no step is wrong, but not all are judged
    no_final               the last line is missing
    two_finals             it is there twice
    extra_text             something follows it
    contradiction          it disagrees with the lines
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

from prm.critic.dialect import Dialect
from prm.errors import EncodingError

STATUSES = (
    "ok",
    "no_steps",
    "empty",
    "truncated",
    "loop",
    "bad_line",
    "index_gap",
    "out_of_range",
    "goes_on_after_wrong",
    "wrong_number_of_steps",
    "no_final",
    "two_finals",
    "extra_text",
    "contradiction",
)
_NUMBER = "0|[1-9][0-9]{0,8}"
# A text that ends with this many copies of the same piece is a loop.
_LOOP_COPIES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedCritique:
    """What a critique says; ``first_error`` counts from 0, None = no error.

    Unless ``status`` is ``ok`` the other fields are empty.
    """

    status: str
    verdicts: tuple[bool, ...] = ()
    first_error: int | None = None
    work: tuple[str, ...] = ()


def render(work: Sequence[str], first_error: int | None, dialect: Dialect) -> str:
    """The critique that restates the judged steps, the last of them wrong unless None.

    ``work`` has an item for each judged step: up to and including the first error.

    Raises:
        EncodingError: a work text cannot stand in a line, or their number does not fit.
    """
    if not work or (first_error is not None and first_error != len(work) - 1):
        raise EncodingError(
            f"a critique with first error {first_error} cannot judge {len(work)} steps"
        )
    lines = []
    for step, text in enumerate(work):
        if fault := dialect.work_fault(text):
            raise EncodingError(f"work {text!r:.80} of step {step} cannot be written: {fault}")
        verdict = dialect.wrong if step == first_error else dialect.correct
        index = step + dialect.index_base
        lines.append(dialect.step_template.format(index=index, work=text, verdict=verdict))
    named = dialect.no_error if first_error is None else str(first_error + dialect.index_base)
    return "\n".join([*lines, dialect.final_template.format(first_error=named)])


def parse(text: str, num_steps: int, finish_reason: str, dialect: Dialect) -> ParsedCritique:
    """Read the critique of a solution of ``num_steps`` steps; never raises on any text."""
    if num_steps == 0:
        return ParsedCritique("no_steps")
    if not text.strip():
        return ParsedCritique("empty")
    if finish_reason == "length":
        return ParsedCritique("loop" if _is_loop(text) else "truncated")
    return _Reader(num_steps, dialect).read(text.split("\n"))


class _Reader:
    """Reads line by line; the first thing that is not legal is the status."""

    def __init__(self, num_steps: int, dialect: Dialect) -> None:
        self.num_steps = num_steps
        self.dialect = dialect
        self.verdicts: list[bool] = []
        self.work: list[str] = []
        self.final: str | None = None

    def read(self, lines: Sequence[str]) -> ParsedCritique:
        step_pattern, final_pattern = _patterns(self.dialect)
        for line in lines:
            if final := final_pattern.fullmatch(line):
                fault = None if self.final is None else "two_finals"
                self.final = final["first_error"]
            elif self.final is not None:
                fault = "extra_text"
            else:
                fault = self._read_step(step_pattern.fullmatch(line))
            if fault:
                return ParsedCritique(fault)
        first_error = self.verdicts.index(False) if False in self.verdicts else None
        if fault := self._fault_of_whole(first_error):
            return ParsedCritique(fault)
        return ParsedCritique("ok", tuple(self.verdicts), first_error, tuple(self.work))

    def _read_step(self, line: re.Match[str] | None) -> str | None:
        if line is None or self.dialect.work_fault(line["work"]):
            return "bad_line"
        index = int(line["index"]) - self.dialect.index_base
        if index >= self.num_steps:
            return "out_of_range"
        if index != len(self.verdicts):
            return "index_gap"
        if False in self.verdicts:
            return "goes_on_after_wrong"
        self.verdicts.append(line["verdict"] == self.dialect.correct)
        self.work.append(line["work"])
        return None

    def _fault_of_whole(self, first_error: int | None) -> str | None:
        if self.final is None:
            return "no_final"
        none = self.final == self.dialect.no_error
        named = None if none else int(self.final) - self.dialect.index_base
        if named is not None and not 0 <= named < self.num_steps:
            return "out_of_range"
        if first_error is None and len(self.verdicts) < self.num_steps:
            return "wrong_number_of_steps"
        return None if named == first_error else "contradiction"


@functools.cache
def _patterns(dialect: Dialect) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The regular expressions of a step's line and of the last line."""
    verdict = f"{re.escape(dialect.correct)}|{re.escape(dialect.wrong)}"
    step = re.escape(dialect.step_template)
    for name, pattern in (("index", _NUMBER), ("work", ".+"), ("verdict", verdict)):
        step = step.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>{pattern})")
    final = re.escape(dialect.final_template).replace(
        re.escape("{first_error}"), f"(?P<first_error>{re.escape(dialect.no_error)}|{_NUMBER})"
    )
    return re.compile(step), re.compile(final)


def _is_loop(text: str) -> bool:
    """Whether the text ends with the same piece three times."""
    for size in range(1, len(text) // _LOOP_COPIES + 1):
        if text.endswith(text[-size:] * _LOOP_COPIES):
            return True
    return False
