"""What a run costs in a virtual machine, beside bubblewrap: a trivial program, four calls."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from prm.verifiers.sandbox.backends import make_sandbox
from prm.verifiers.sandbox.protocol import Call, Job, Limits, Sandbox
from prm.verifiers.sandbox.vm.sandbox import VmSandbox

_JOB = Job("def add(a, b):\n    return a + b\n", "add", tuple(Call((i, 1)) for i in range(4)))
_LIMITS = Limits(wall_s=30.0, cpu_s=31)
_REFILL_S = 1.5
"""Seconds after which a machine that was taken has been replaced."""


def measure(cache: str | None, runs: int = 20) -> list[str]:
    """The lines of a table of latencies (median and largest, milliseconds) and runs a second.

    Raises:
        SandboxUnavailable: one of the sandboxes does not work here.
    """
    workers = os.cpu_count() or 1
    lines = [f"{'sandbox':<16}{'median ms':>10}{'max ms':>8}  runs/s with {workers} at a time"]
    sandboxes: list[tuple[str, Callable[[], Sandbox], float]] = [
        ("bwrap", lambda: make_sandbox("bwrap"), 0.0),
        ("vm, none ready", lambda: VmSandbox(spare=0, cache=cache), 0.0),
        ("vm, one ready", lambda: VmSandbox(spare=1, cache=cache), _REFILL_S),
    ]
    for name, make, pause in sandboxes:
        sandbox = make()
        try:
            _run(sandbox)
            times = [1000 * _run(sandbox, pause) for _ in range(runs)]
            rate = _throughput(sandbox, workers, runs)
        finally:
            sandbox.close()
        lines.append(f"{name:<16}{statistics.median(times):>10.0f}{max(times):>8.0f}  {rate:.1f}")
    return lines


def _run(sandbox: Sandbox, pause: float = 0.0) -> float:
    """Seconds of one run, after a pause."""
    time.sleep(pause)
    begin = time.monotonic()
    result = sandbox.run(_JOB, _LIMITS)
    assert result.outcome == "done", result
    return time.monotonic() - begin


def _throughput(sandbox: Sandbox, workers: int, runs: int) -> float:
    begin = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: _run(sandbox), range(runs)))
    return runs / (time.monotonic() - begin)
