"""What the sandbox costs beside a plain subprocess: latency and checks a second.

    python benchmarks/bench_verifiers_code.py [--quick]

Three ways to check the same program, one after the other in each round, so that a busy moment of
the machine meets all alike:

- plain: ``subprocess.run([python, "-c", program + one call])``, the floor that anybody would write;
- driver: our driver with 4 calls, without a sandbox;
- sandbox: `check_code` with 4 tests, as it is used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from prm.verifiers.code import CallTest, CodeTask, check_code
from prm.verifiers.sandbox import Call, Job, Limits
from prm.verifiers.sandbox.bwrap import BwrapSandbox
from prm.verifiers.sandbox.process import run_command

GOAL = 2.0
"""The sandbox's latency in that of a plain subprocess, at most."""
PROGRAM = """
def nth_prime(n):
    found, candidate = [], 1
    while len(found) < n:
        candidate += 1
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return found[-1]
"""
TESTS = ((1, 2), (2, 3), (6, 13), (10, 29))
LIMITS = Limits(wall_s=30.0, cpu_s=31)

Check = Callable[[], bool]


def main() -> int:
    """Measure, print the table and the target; 1 when it is short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 30 if parser.parse_args().quick else 200
    workers = os.cpu_count() or 1
    sandbox = BwrapSandbox(workers)
    begin = time.perf_counter()
    faults = sandbox.self_test()
    self_test_s = time.perf_counter() - begin
    if faults:
        raise SystemExit(f"the sandbox is not sound: {faults}")
    checks = make_checks(sandbox)
    assert all(check() for check in checks.values())
    seconds = time_latency(checks, rounds)
    rates = time_throughput(checks, rounds, workers)
    console = Console()
    console.print(make_table(seconds, rates, workers))
    console.print(f"self-test, once a process: {self_test_s * 1000:.0f} ms")
    return report(console, seconds)


def make_checks(sandbox: BwrapSandbox) -> dict[str, Check]:
    """The three ways, each telling whether the program was found right."""
    python = sandbox.interpreter.executable
    task = CodeTask("call", tuple(CallTest(e, (n,)) for n, e in TESTS), entry="nth_prime")
    job = Job(PROGRAM, "nth_prime", tuple(Call((n,)) for n, _ in TESTS))

    def plain() -> bool:
        command = [python, "-c", PROGRAM + "print(nth_prime(10))"]
        return subprocess.run(command, capture_output=True, check=True).stdout == b"29\n"

    def driver() -> bool:
        raw = run_command(sandbox.interpreter.command, job.to_bytes(LIMITS), LIMITS)
        return raw.records.count(b"\n") == 1 + len(TESTS)

    def sandboxed() -> bool:
        return check_code(PROGRAM, task, sandbox=sandbox, limits=LIMITS).label is True

    return {"plain": plain, "driver": driver, "sandbox": sandboxed}


def time_latency(checks: dict[str, Check], rounds: int) -> dict[str, list[float]]:
    """The seconds of each check, in rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in checks}
    for _ in range(rounds):
        for name, check in checks.items():
            begin = time.perf_counter()
            check()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def time_throughput(checks: dict[str, Check], rounds: int, workers: int) -> dict[str, float]:
    """Checks a second with one thread a core; the best of three alternating turns."""
    rates = dict.fromkeys(checks, 0.0)
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(3):
            for name, check in checks.items():
                begin = time.perf_counter()
                assert all(pool.map(lambda _, check=check: check(), range(rounds)))
                rates[name] = max(rates[name], rounds / (time.perf_counter() - begin))
    return rates


def make_table(seconds: dict[str, list[float]], rates: dict[str, float], workers: int) -> Table:
    """One row a check."""
    table = Table("check", "median ms", "p95 ms", "x plain", f"checks/s, {workers} workers")
    for name, values in seconds.items():
        table.add_row(
            name,
            f"{statistics.median(values) * 1000:.1f}",
            f"{statistics.quantiles(values, n=20)[-1] * 1000:.1f}",
            f"{ratio(seconds, name):.2f}",
            f"{rates[name]:.0f}",
        )
    return table


def ratio(seconds: dict[str, list[float]], name: str) -> float:
    """The median over the rounds of this check's time in that round's plain one."""
    pairs = zip(seconds[name], seconds["plain"], strict=True)
    return statistics.median(mine / plain for mine, plain in pairs)


def report(console: Console, seconds: dict[str, list[float]]) -> int:
    """Print the line of the target; 0 when it is met."""
    value = ratio(seconds, "sandbox")
    word = "met" if value <= GOAL else "short"
    console.print(
        f"bench-verifiers sandbox_latency: {value:.2f} of a plain subprocess (goal {GOAL}): {word}",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if value <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
