"""Check a step by a program that a model wrote for it (program-of-thought verification).

    def check():
        return 3 * (4 + 5) == 27        True = the step is right, False = it is wrong

The program runs in a sandbox. Its word is evidence and no verdict: a model wrote it, and may have
misread the step. A program that says nothing about the step, or says nothing at all, is counted
for nothing: see `ProgramCheck.reason`.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from prm.records import Evidence
from prm.verifiers.code.extract import MAX_PROGRAM, extract_program
from prm.verifiers.sandbox import Call, Job, Limits, Sandbox, default_sandbox

ENTRY = "check"
"""The function of a check program, without arguments."""
LIMITS = Limits(wall_s=5.0)
MAX_DIGITS = 100
"""Of a number in a step or a program; longer ones are passed over."""

_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class ProgramCheck:
    """What a check program said of a step: True, False, or None with the reason.

    Reasons: no_program, too_long, unparsed, constant (it answers without computing anything),
    unrelated (it has none of the step's numbers), no_answer (it returned no boolean), exception,
    and those of the sandbox: timeout, memory, output_limit, crash, bad_output, error.
    """

    holds: bool | None
    reason: str = ""
    detail: str = ""

    def evidence(self, author: str, tokens: int = 0) -> Evidence | None:
        """One trial by the model that wrote the program; None where it said nothing."""
        if self.holds is None:
            return None
        return Evidence("program", int(self.holds), 1, author, tokens)


def check_step_by_program(
    step: str,
    context: Sequence[str],
    text: str,
    *,
    sandbox: Sandbox | None = None,
    limits: Limits = LIMITS,
) -> ProgramCheck:
    """Run the program in a model's ``text`` on the step that it was written for.

    ``context``: the statement and the steps before. They decide whether the program is about this
    step; the program itself gets no input.

    Raises:
        SandboxUnavailable: there is no sound sandbox here.
    """
    program = extract_program(text, ENTRY)
    if program is None:
        return ProgramCheck(None, "no_program")
    if refused := _refuse(program, step, context):
        return ProgramCheck(None, refused)
    sandbox = sandbox or default_sandbox()
    try:
        result = sandbox.run(Job(program, entry=ENTRY, calls=(Call(),)), limits)
    except OSError as error:
        return ProgramCheck(None, "error", f"the sandbox could not be started: {error}")
    if result.outcome != "done":
        return ProgramCheck(None, result.outcome, result.detail[:300])
    return _read(result.records)


def _read(records: Sequence[Any]) -> ProgramCheck:
    """What the one call returned; all of it may have been forged."""
    if len(records) != 1 or not isinstance(records[0], dict):
        return ProgramCheck(None, "bad_output", f"{len(records)} records for one call")
    record = records[0]
    if "raised" in record:
        return ProgramCheck(None, "exception", str(record["raised"])[:300])
    value = record.get("value")
    if record.get("call") != 0 or not isinstance(value, bool):
        return ProgramCheck(None, "no_answer", f"{value!r:.100}")
    return ProgramCheck(value)


def _refuse(program: str, step: str, context: Sequence[str]) -> str:
    """Why the program would say nothing about the step; "" where it may."""
    if len(program) > MAX_PROGRAM:
        return "too_long"
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "unparsed"
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == ENTRY
    ]
    if not functions:
        return "no_program"
    if not any(isinstance(node, ast.Compare | ast.Call) for node in ast.walk(functions[-1])):
        return "constant"
    wanted = _numbers(step) or _numbers(" ".join(context))
    return "" if not wanted or wanted & _constants(tree) else "unrelated"


def _numbers(text: str) -> set[Fraction]:
    """Those of `MAX_DIGITS` or fewer: Python refuses to read or write very long ones."""
    found = (match[0].replace(",", "") for match in _NUMBER.finditer(text[:20_000]))
    return {Fraction(number) for number in found if len(number) <= MAX_DIGITS}


def _constants(tree: ast.Module) -> set[Fraction]:
    """All numbers in a program, also those in its strings."""
    found: set[Fraction] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= _numbers(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            found |= _number(node.value)
    return found


def _number(value: float) -> set[Fraction]:
    """A number of a program, where it is of a size that steps state."""
    # Compared before it is written: in hexadecimal a number may have any length.
    if isinstance(value, bool) or not abs(value) < 10**MAX_DIGITS:
        return set()
    text = repr(value)
    return {Fraction(text)} if _NUMBER.fullmatch(text) else set()
