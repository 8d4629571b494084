"""How a run ended, from what it left: the same reading for every backend."""

from __future__ import annotations

import json
import signal
from typing import Any

from prm.verifiers.sandbox.process import Raw
from prm.verifiers.sandbox.protocol import Outcome, RunResult

_OUT_OF_CPU = 128 + signal.SIGXCPU
_KILLED = 128 + signal.SIGKILL


def read_result(raw: Raw) -> RunResult:
    """The run's records and outcome.

    Without the driver's hello the program was never started: that is an error of the sandbox. So is
    a kill that did not come from us, of the sandbox or inside it: memory is bounded by a limit that
    makes Python raise MemoryError, so a kill alone says nothing about the program.
    """
    python, records = _split(raw.records)
    outcome, detail = _outcome(raw)
    if not python:
        outcome, detail = "error", f"the sandbox did not start: {_last_line(raw.stderr) or detail}"
    elif raw.stopped == "survived":
        outcome, detail = "error", "a killed program did not end"
    elif records is None and outcome == "done":
        outcome, detail = "bad_output", "the records are no JSON lines"
    return RunResult(
        outcome=outcome,
        records=tuple(records or ()),
        stdout=raw.stdout,
        stderr=raw.stderr,
        exit_code=raw.exit_code,
        seconds=raw.seconds,
        python=python,
        detail=detail,
    )


def _outcome(raw: Raw) -> tuple[Outcome, str]:
    last = _last_line(raw.stderr)
    if raw.stopped == "timeout" or raw.exit_code == _OUT_OF_CPU:
        return "timeout", f"stopped after {raw.seconds:.1f} s"
    if raw.stopped == "output_limit":
        return "output_limit", "more output than the limit"
    if raw.exit_code == 0:
        return "done", ""
    if raw.exit_code < 0:
        return "error", f"the sandbox was killed from outside, by signal {-raw.exit_code}"
    if last.startswith("MemoryError"):
        return "memory", last
    if raw.exit_code == _KILLED:
        return "error", "the program was killed, and not by a limit"
    return "crash", last or f"exit status {raw.exit_code}"


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def _split(data: bytes) -> tuple[str, list[Any] | None]:
    """The Python version of the hello ("" = there is none), and the records behind it.

    None for the records: they cannot be read. A last line without its end is not read.
    """
    hello, *lines = data.split(b"\n")[:-1] or [b""]
    first = _parse(hello)
    if not isinstance(first, dict) or not isinstance(first.get("hello"), str):
        return "", None
    records = [_parse(line) for line in lines]
    return first["hello"], None if None in records else records


def _parse(line: bytes) -> Any:
    """The line's JSON value; None when it is none."""
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
