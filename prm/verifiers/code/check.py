"""Run a program on a task's tests and compare, on the host, what it answered."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

from prm.records import Status, Verdict
from prm.verifiers.code.compare import Compare, compare_encoded, compare_text
from prm.verifiers.code.extract import MAX_PROGRAM
from prm.verifiers.code.task import CallTest, CodeTask, StdioTest
from prm.verifiers.sandbox.backends import default_sandbox
from prm.verifiers.sandbox.protocol import Call, Job, Limits, RunResult, Sandbox
from prm.verifiers.sandbox.values import encode

DEFAULT_LIMITS = Limits()
_STATUS: dict[str, Status] = {
    "": "right",
    "no_answer": "could_not_tell",
    "too_long": "could_not_tell",
    "error": "could_not_tell",
    "unsupported": "could_not_tell",
}
"""Every other reason is wrong."""
_UNSUPPORTED = (
    "ModuleNotFoundError: No module named ",
    "RuntimeError: can't start new thread",
)
"""What a right program may need and the sandbox does not have."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Finding:
    """What some tests showed; ``reason`` "" = all passed."""

    passed: int
    reason: str = ""
    detail: str = ""


def check_code(
    program: str | None,
    task: CodeTask,
    *,
    sandbox: Sandbox | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Verdict:
    """Right when the program passes all tests of the task, wrong when it fails one.

    A program that times out, crashes or floods is wrong; no program, a failure of the sandbox, and
    a module or thread that there is none of inside (unsupported), is could_not_tell. ``reason`` of
    a wrong one is of the first test that failed: wrong_answer, exception, timeout, memory,
    output_limit, crash or bad_output.

    Raises:
        SandboxUnavailable: there is no sound sandbox here.
    """
    sandbox = sandbox or default_sandbox()
    begin = time.monotonic()
    finding = _refuse(program) or _run(program or "", task, sandbox, _limits(task, limits))
    return Verdict(
        _STATUS.get(finding.reason, "wrong"),
        f"code/{sandbox.name}",
        seconds=time.monotonic() - begin,
        detail=finding.detail,
        reason=finding.reason,
        passed=finding.passed,
        total=len(task.tests),
    )


def _refuse(program: str | None) -> _Finding | None:
    if program is None or not program.strip():
        return _Finding(0, "no_answer", "no program")
    if len(program) > MAX_PROGRAM:
        return _Finding(0, "too_long", f"{len(program)} characters, more than {MAX_PROGRAM}")
    return None


def _limits(task: CodeTask, limits: Limits) -> Limits:
    """The task's own time; what it expects to be printed or returned comes on top of the limit."""
    room = limits.output_bytes + task.output_bytes
    limits = dataclasses.replace(limits, output_bytes=room)
    if task.wall_s is None:
        return limits
    cpu_s = max(limits.cpu_s, math.ceil(task.wall_s) + 1)
    return dataclasses.replace(limits, wall_s=task.wall_s, cpu_s=cpu_s)


def _run(program: str, task: CodeTask, sandbox: Sandbox, limits: Limits) -> _Finding:
    try:
        if task.kind == "stdio":
            return _run_stdio(program, task, sandbox, limits)
        calls = tuple(Call(t.args, t.kwargs) for t in task.tests if isinstance(t, CallTest))
        return _judge_calls(sandbox.run(Job(program, task.entry, calls), limits), task)
    except OSError as err:
        return _Finding(0, "error", f"the sandbox could not be started: {err}")


def _judge_calls(result: RunResult, task: CodeTask) -> _Finding:
    """Compare the records of one launch with the tests: one record a call, in order, no others."""
    records, total = result.records, len(task.tests)
    if result.outcome in ("error", "bad_output"):
        return _Finding(0, result.outcome, result.detail)
    if [_index(record) for record in records] == [None]:
        return _raised(records[0], "crash")
    if [_index(record) for record in records] != list(range(min(len(records), total))):
        return _Finding(0, "bad_output", f"{len(records)} records that are not one a call")
    findings = [
        _judge_call(record, test.expected, task.compare)
        for record, test in zip(records, task.tests[: len(records)], strict=True)
    ]
    if result.outcome != "done":
        findings.append(_Finding(0, result.outcome, result.detail))
    elif len(records) < total:
        detail = f"it ended itself after {len(records)} of {total} calls"
        findings.append(_Finding(0, "bad_output", detail))
    return _sum(findings)


def _index(record: Any) -> Any:
    """The number of the call that the record answers; "" where it is no record of a call."""
    index = record.get("call", "") if isinstance(record, dict) else ""
    return index if index is None or type(index) is int else ""


def _judge_call(record: dict[str, Any], expected: Any, rule: Compare) -> _Finding:
    if "raised" in record:
        return _raised(record, "exception")
    if "value" not in record:
        return _Finding(0, "bad_output", f"the value cannot travel: {_text(record, 'unsendable')}")
    try:
        is_right = compare_encoded(record["value"], encode(expected), rule)
    except (TypeError, ValueError, RecursionError) as err:
        return _Finding(0, "bad_output", str(err))
    call = f"call {record['call']}"
    return _Finding(1) if is_right else _Finding(0, "wrong_answer", f"{call}: another value")


def _raised(record: dict[str, Any], reason: str) -> _Finding:
    text = _text(record, "raised")
    return _failed("memory" if text.startswith("MemoryError") else reason, text)


def _failed(reason: str, text: str) -> _Finding:
    """What ended a program; ``text`` is its error."""
    is_ours = reason in ("exception", "crash") and text.startswith(_UNSUPPORTED)
    return _Finding(0, "unsupported" if is_ours else reason, text)


def _text(record: dict[str, Any], key: str) -> str:
    """What the record says; a forged one may hold what has no text."""
    text = record.get(key)
    return text if isinstance(text, str) else "the record has no text"


def _sum(findings: Sequence[_Finding]) -> _Finding:
    """All that passed, and the first reason why one did not; a wrong one comes before the rest."""
    passed = sum(finding.passed for finding in findings)
    failed = [finding for finding in findings if finding.reason]
    failed.sort(key=lambda finding: finding.reason in _STATUS)
    first = failed[0] if failed else _Finding(0)
    return _Finding(passed, first.reason, first.detail)


def _run_stdio(program: str, task: CodeTask, sandbox: Sandbox, limits: Limits) -> _Finding:
    """One launch a test; none after one that used up a limit, which the next would use up too."""
    findings: list[_Finding] = []
    for test in task.tests:
        assert isinstance(test, StdioTest)
        result = sandbox.run(Job(program, stdin=test.stdin), limits)
        findings.append(_judge_stdio(result, test, task.compare))
        if findings[-1].reason == "error":
            return findings[-1]
        if findings[-1].reason in ("timeout", "memory", "output_limit"):
            break
    return _sum(findings)


def _judge_stdio(result: RunResult, test: StdioTest, rule: Compare) -> _Finding:
    if result.outcome != "done":
        return _failed(result.outcome, result.detail)
    if compare_text(result.stdout.decode("utf-8", "replace"), test.expected, rule):
        return _Finding(1)
    return _Finding(0, "wrong_answer", "another text was printed")
