"""How fast the sampling job is beside its own client in a bare loop, and the memory it needs.

    python -m benchmarks.bench_sampling          make bench-sampling; QUICK=1 for the short form

The server is the stub: a process of its own that answers each request after 50 ms. Both sides send
the same requests, one a sample, 512 in flight, in turns. A rate is over the time from
the first request to the last reply (bare) or the last record on the disk (job): the start of the
interpreter and the closing summary count on neither side. CPU is that of the process that asks.

Streamed, with the loop guard: the job's defaults, 8 samples a problem. Whole replies: one sample a
problem, because several of one prompt would be one request; 128 problems a batch, so that a batch
has as many samples as by default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks import bare_client
from benchmarks.sampling_job import Process, SamplingJob, Timed, make_problems, timed
from benchmarks.table import Middle, Target, finish, is_quick, say, show
from prm.store import Shard
from tests.stub_server import RunningStub, running_stub

IN_FLIGHT = 512
LATENCY_MS = 50
SHARE_GOAL = 0.80
MEMORY_GOAL_MB = 400.0
GROWTH_GOAL_MB = 20.0
NUM_SHARDS = (1, 2)
SAMPLES_A_PROBLEM = 8
BATCH = 128  # samples


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    requests: int
    rounds: int
    rows: tuple[int, ...]


FULL = Size(requests=20_000, rounds=5, rows=(5_000, 20_000, 80_000))
QUICK = Size(requests=1_600, rounds=3, rows=(1_600, 4_800))


class Bench:
    """The stub, a folder, and what is run there."""

    def __init__(self, folder: Path, stub: RunningStub, size: Size) -> None:
        """``folder`` is where everything lies for as long as it is needed."""
        self._folder, self._stub, self.size = folder, stub, size

    def bare(self, *, is_streamed: bool) -> Timed:
        """The client in a loop."""
        n = _samples(is_streamed)
        words = ["--problems", str(self._problems(self.size.requests // n)), "--samples", str(n)]
        words += ["--url", self._stub.url, "--in-flight", str(IN_FLIGHT)]
        words += ["--stream"] if is_streamed else []
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            process = Process(["-m", "benchmarks.bare_client", *words], Path(folder) / "log")
            process.start()
            process.check()
            facts = orjson.loads(process.log.read_bytes())
        return Timed(facts["seconds"], facts["cpu_seconds"], facts["peak_mb"])

    def job(self, num_rows: int = 0, *, is_streamed: bool = True, num_shards: int = 1) -> Timed:
        """The whole job, in one process or several, for so many rows (0 = as the bare loop)."""
        n = _samples(is_streamed)
        endpoint = {"url": self._stub.url, "concurrency": IN_FLIGHT // num_shards}
        servers = {"endpoints": [endpoint], "loop_guard": {"enabled": is_streamed}}
        settings = {
            "problems": str(self._problems((num_rows or self.size.requests) // n)),
            "generator": {"model": "stub", "servers": servers},
            "strategies": {bare_client.STRATEGY: 1},
            "sampling": {"n": n, "max_tokens": bare_client.MAX_TOKENS, "stop": []},
            "problems_per_batch": BATCH // n,
        }
        return self._run(settings, num_shards)

    def _problems(self, count: int) -> Path:
        """A store of so many, made when it is first asked for."""
        made = self._folder / f"problems-{count}"
        return made if made.exists() else make_problems(self._folder, count)

    def _run(self, settings: dict[str, Any], num_shards: int) -> Timed:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            shards = [Shard(index, num_shards) for index in range(num_shards)]
            jobs = [SamplingJob(Path(folder), settings, shard) for shard in shards]
            return timed(jobs, lambda: self._stub.counts().get("requests", 0))


def main() -> None:
    """Measure, print, and say whether the goals are met."""
    size = QUICK if is_quick() else FULL
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-sampling-"))
        stack.callback(shutil.rmtree, folder)
        stub = stack.enter_context(running_stub(latency_ms=LATENCY_MS, answer="arithmetic"))
        bench = Bench(folder, stub, size)
        finish("bench-sampling", [*_throughput(bench), *_memory(bench)])


def _samples(is_streamed: bool) -> int:
    """Of a problem."""
    return SAMPLES_A_PROBLEM if is_streamed else 1


def _throughput(bench: Bench) -> list[Target]:
    """Both ways of asking, in one process and in two; the better one counts for the goal."""
    rows, targets = [], []
    for name, is_streamed in (("whole replies", False), ("streamed, loop guard", True)):
        bare, *jobs = _alternate(bench, is_streamed)
        rows.append(_row(f"{name}: bare loop", bench, bare))
        ratios = []
        for num_shards, found in zip(NUM_SHARDS, jobs, strict=True):
            pairs = zip(bare, found, strict=True)
            ratios.append(Middle.of([b.seconds / j.seconds for b, j in pairs]))
            label = f"{name}: job, {num_shards} process{'es' * (num_shards > 1)}"
            rows.append([*_row(label, bench, found)[:-1], ratios[-1].show()])
        best = max(range(len(ratios)), key=lambda i: ratios[i].median)
        reached = f"{ratios[best].show()} of a bare loop in {NUM_SHARDS[best]} process(es)"
        target = "stub_throughput_streamed" if is_streamed else "stub_throughput"
        is_met = ratios[best].median >= SHARE_GOAL
        targets.append(Target(target, reached, f"{SHARE_GOAL:.2f}", is_met))
    title = (
        f"{bench.size.requests:,} requests, {IN_FLIGHT} in flight, {LATENCY_MS} ms each; "
        f"median of {bench.size.rounds} (smallest-largest)"
    )
    columns = ["what", "requests/s", "CPU ms/request", "peak MB", "of the bare loop"]
    show(title, columns, rows)
    return targets


def _alternate(bench: Bench, is_streamed: bool) -> list[list[Timed]]:
    """Bare loop, job in one process, in two; the order turns, so that none gains from a drift."""
    sides: list[Callable[[], Timed]] = [functools.partial(bench.bare, is_streamed=is_streamed)]
    for num_shards in NUM_SHARDS:
        sides.append(functools.partial(bench.job, is_streamed=is_streamed, num_shards=num_shards))
    found: list[list[Timed]] = [[] for _ in sides]
    for number in range(bench.size.rounds):
        places = list(range(len(sides)))
        for place in places if number % 2 == 0 else reversed(places):
            found[place].append(sides[place]())
        rates = [f"{bench.size.requests / one[-1].seconds:.0f}" for one in found]
        say(f"round {number + 1}: requests/s: {rates[0]} bare, {' and '.join(rates[1:])} job")
    return found


def _row(name: str, bench: Bench, found: Sequence[Timed]) -> list[str]:
    requests = bench.size.requests
    return [
        name,
        Middle.of([requests / one.seconds for one in found]).show(".0f"),
        Middle.of([1000 * one.cpu_seconds / requests for one in found]).show(),
        f"{max(one.peak_mb for one in found):.0f}",
        "",
    ]


def _memory(bench: Bench) -> list[Target]:
    """Peak memory for more and more rows. The fewest fill no buffer: growth is from the second."""
    peaks = {rows: bench.job(rows) for rows in bench.size.rows}
    show(
        f"memory of the job, {SAMPLES_A_PROBLEM} samples a problem, streamed",
        ["rows", "peak MB", "requests/s"],
        [
            [f"{rows:,}", f"{one.peak_mb:.0f}", f"{rows / one.seconds:.0f}"]
            for rows, one in peaks.items()
        ],
    )
    few, many = bench.size.rows[-2:]
    largest = max(one.peak_mb for one in peaks.values())
    growth = peaks[many].peak_mb - peaks[few].peak_mb
    return [
        Target("memory", f"{largest:.0f} MB", f"{MEMORY_GOAL_MB:.0f} MB", largest < MEMORY_GOAL_MB),
        Target(
            "memory_growth",
            f"{growth:+.0f} MB from {few:,} to {many:,} rows",
            f"{GROWTH_GOAL_MB:.0f} MB",
            growth < GROWTH_GOAL_MB,
        ),
    ]


if __name__ == "__main__":
    main()
