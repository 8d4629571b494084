"""`data_gen.sample` and its like as processes that are timed, measured and killed."""

from __future__ import annotations

import bisect
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from prm.generation.request_store import RequestStore
from prm.store import Shard

ROOT = Path(__file__).parents[1]
_POLL_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Process:
    """A process that writes to a log of its own; its CPU time and peak memory are watched."""

    arguments: Sequence[str]
    log: Path
    peak_mb: float = 0.0
    _popen: subprocess.Popen[bytes] | None = None
    _cpu: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def start(self) -> None:
        """Start it; it writes behind what its log holds."""
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_running(self) -> bool:
        """Look, and note CPU time and peak memory."""
        assert self._popen is not None, "start it first"
        if self._popen.poll() is not None:
            return False
        proc = Path(f"/proc/{self._popen.pid}")
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        self._cpu.append((time.time(), (int(fields[11]) + int(fields[12])) / _TICKS))
        for line in (proc / "status").read_text().splitlines():
            # Not in the list of one that has just ended.
            if line.startswith("VmHWM:"):
                self.peak_mb = int(line.split()[1]) / 1024
        return True

    def cpu_until(self, moment: float) -> float:
        """Seconds of CPU, of all threads, that it had used at that time (as of `time.time`)."""
        place = bisect.bisect(self._cpu, (moment, float("inf")))
        return self._cpu[place - 1][1] if place else 0.0

    def kill(self) -> None:
        """End it at once, as a lost machine does."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(signal.SIGKILL)
            self._popen.wait()

    def check(self) -> None:
        """Wait for its end.

        Raises:
            RuntimeError: it failed; the message ends with its log.
        """
        assert self._popen is not None, "start it first"
        if self._popen.wait() != 0:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{' '.join(self.arguments[:3])} ended with an error:\n{tail}")


class SamplingJob:
    """One shard of `data_gen.sample`, with settings of its own and a folder for all it leaves."""

    def __init__(self, folder: Path, settings: dict[str, Any], shard: Shard | None = None) -> None:
        """``settings``: as in the job's YAML file; ``output`` is set here."""
        self.shard = shard or Shard()
        self.output = folder / "solutions"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "sample.yaml"
        config.write_text(yaml.safe_dump({**settings, "output": str(self.output)}))
        arguments = ["-m", "data_gen.sample", "--config", str(config)]
        arguments += ["--shard", f"{self.shard.index}/{self.shard.count}"]
        self.process = Process(arguments, folder / f"{self.shard.stem}.log")

    @property
    def records(self) -> Path:
        """The file of the records."""
        return self.output / f"{self.shard.stem}.jsonl"

    def finished_at(self) -> float:
        """When the last record was written, as of `time.time`."""
        return (self.output / f"{self.shard.stem}.journal").stat().st_mtime

    def manifest(self) -> dict[str, Any]:
        """Its counts, cost and state."""
        path = self.output / f"{self.shard.stem}.json"
        manifest: dict[str, Any] = json.loads(path.read_text())
        return manifest

    def request_store(self) -> RequestStore:
        """The answers that it has paid for; only while it does not run."""
        return RequestStore(self.output.with_name("solutions-requests"), self.shard)


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """From the first request to the last record: seconds, CPU seconds; peak MB of the largest."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def timed(jobs: Sequence[SamplingJob], num_requests: Callable[[], float]) -> Timed:
    """Run jobs side by side; ``num_requests`` is the server's count, which tells when they begin.

    Raises:
        RuntimeError: one failed.
    """
    before, begun, is_begun = num_requests(), time.time(), False
    for job in jobs:
        job.process.start()
    try:
        while any([job.process.is_running() for job in jobs]):
            # The last moment at which none had come: no time is taken from what the job needs.
            now = time.time()
            is_begun = is_begun or num_requests() > before
            begun = begun if is_begun else now
            time.sleep(_POLL_SECONDS)
    finally:
        for job in jobs:
            job.process.kill()
    for job in jobs:
        job.process.check()
    ends = {job.shard: job.finished_at() for job in jobs}
    spent = [job.process.cpu_until(ends[job.shard]) - job.process.cpu_until(begun) for job in jobs]
    return Timed(max(ends.values()) - begun, sum(spent), max(j.process.peak_mb for j in jobs))


def make_problems(folder: Path, count: int) -> Path:
    """A store of sums, all different; returns its folder.

    Raises:
        RuntimeError: the job failed.
    """
    output = folder / f"problems-{count}"
    options = {"output": output, "sizes": {"test": count}, "num_operands": [3, 4, 5], "high": 99}
    words = [w for key, value in options.items() for w in (f"--{key}", str(value))]
    made = Process(["-m", "data_gen.problems", *words], folder / "problems.log")
    made.start()
    made.check()
    return output
