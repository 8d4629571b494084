"""Programs in a virtual machine of their own: another kernel, and nothing of this machine in it.

One run, one machine: restored from a snapshot in which Python waits for the job, given the job over
the serial port, and thrown away. Restored machines are kept ready, so that a run need not wait.

It costs more than bubblewrap (docs/sandbox_vm.md has the command and the circumstances): by
emulation 380 ms a run with a machine ready and 810 without one, where bubblewrap takes 36, and
programs compute some 15 times slower inside. A machine that waits holds 190 MB.
What it buys: a program that knows a hole in the Linux kernel has won a kernel that holds nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from prm.errors import ConfigError, SandboxUnavailable
from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.process import Raw
from prm.verifiers.sandbox.protocol import Job, Limits, RunResult, count_workers
from prm.verifiers.sandbox.self_test import find_faults
from prm.verifiers.sandbox.vm.command import HOW_TO_FIX
from prm.verifiers.sandbox.vm.image import GUEST_MB, Image, find_image
from prm.verifiers.sandbox.vm.machine import Machine
from prm.verifiers.sandbox.vm.reading import Ended


class VmSandbox:
    """Runs programs in virtual machines.

    Args:
        workers: runs at the same time; more wait. None = one a core.
        spare: machines kept ready beside those that run. None = as many as workers.
        time_scale: what a limit of time is multiplied with, since programs compute slower inside.
            None = the slowdown that was measured when the image was built (1 with KVM or so).
        cache: the folder that holds the image. None = the user's cache.
    """

    name = "vm"

    def __init__(
        self,
        workers: int | None = None,
        spare: int | None = None,
        time_scale: float | None = None,
        cache: str | None = None,
    ) -> None:
        """Start nothing yet: the first run does.

        Raises:
            ConfigError: a number is not above zero.
        """
        self.workers = count_workers(workers)
        self.spare = self.workers if spare is None else spare
        if self.spare < 0 or (time_scale is not None and time_scale <= 0):
            raise ConfigError(
                f"vm: spare {spare}, time_scale {time_scale}: "
                "the second must be above zero, the first not below"
            )
        self._time_scale, self._cache = time_scale, cache
        self._turns = threading.BoundedSemaphore(self.workers)
        self._pool: _Pool | None = None
        self._lock = threading.RLock()
        self._sound = False

    @functools.cached_property
    def image(self) -> Image:
        """The guest's image.

        Raises:
            SandboxUnavailable: it was not built, or qemu is absent.
        """
        return find_image(self._cache)

    @property
    def time_scale(self) -> float:
        """What limits of time are multiplied with."""
        return self._time_scale or self.image.slowdown

    def run(self, job: Job, limits: Limits) -> RunResult:
        """Run the job in a new machine; what the program does is in the result.

        Raises:
            SandboxUnavailable: the image or qemu is absent, or the self-test found a fault.
            ConfigError: the limit of memory is more than the machine has.
        """
        self._require_sound()
        try:
            raw, ended = self._launch(job, self._inside(limits))
        except (OSError, SandboxUnavailable) as err:
            return RunResult("error", detail=str(err))
        result = read_result(raw)
        if ended == "broken" and result.outcome != "error":
            return dataclasses.replace(
                result, outcome="error", detail="the virtual machine ended before the program"
            )
        return result

    def self_test(self) -> list[str]:
        """What is not sound here; empty = sound."""
        try:
            version = self.image.python
            return find_faults(lambda job, limits: self._launch(job, limits)[0], version)
        except SandboxUnavailable as err:
            return [err.reason]

    def close(self) -> None:
        """End the machines that wait."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _launch(self, job: Job, limits: Limits) -> tuple[Raw, Ended]:
        data = job.to_bytes(limits)
        with self._turns, self._machines().take() as machine:
            return machine.run(data, limits, scratch_mb=limits.scratch_mb)

    def _inside(self, limits: Limits) -> Limits:
        """The limits with their times stretched; checked against the machine's memory."""
        most = self.image.hardware.memory_mb - GUEST_MB
        if limits.memory_mb > most:
            raise ConfigError(
                f"limit memory_mb: {limits.memory_mb} is more than the virtual machine has ({most})"
            )
        scale = self.time_scale
        return dataclasses.replace(
            limits, wall_s=limits.wall_s * scale, cpu_s=math.ceil(limits.cpu_s * scale)
        )

    def _machines(self) -> _Pool:
        with self._lock:
            if self._pool is None:
                self._pool = _Pool(self.image, self.workers, self.spare)
            return self._pool

    def _require_sound(self) -> None:
        with self._lock:
            if not self._sound:
                image = self.image
                faults = self.self_test()
                if faults:
                    raise SandboxUnavailable(
                        f"vm ({image.hardware.accelerator}): " + "; ".join(faults), HOW_TO_FIX
                    )
                self._sound = True


class _Pool:
    """Machines that were restored in advance, in the order in which they were asked for."""

    def __init__(self, image: Image, workers: int, spare: int) -> None:
        self._image, self._spare = image, spare
        self._numbers = itertools.count()
        # Threads that stay: a machine ends with the thread that started it.
        self._starters = ThreadPoolExecutor(workers, "prm-vm")
        self._waiting: collections.deque[Future[Machine]] = collections.deque()
        self._lock = threading.Lock()
        self._is_closed = False

    def take(self) -> Machine:
        """A running machine; another is started in its place.

        Raises:
            SandboxUnavailable: it did not start.
        """
        machine = self._next().result()
        if machine.process.poll() is not None:
            # It ended while it waited, for instance when the host's memory ran out.
            machine.kill()
            machine = self._next().result()
        return machine

    def _next(self) -> Future[Machine]:
        with self._lock:
            if self._is_closed:
                raise SandboxUnavailable("it was closed", "make a new one")
            while len(self._waiting) < self._spare + 1:
                number = next(self._numbers)
                self._waiting.append(self._starters.submit(self._image.restore, number))
            return self._waiting.popleft()

    def close(self) -> None:
        """Kill those that wait."""
        with self._lock:
            self._is_closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for future in waiting:
            if not future.cancel():
                _kill_when_started(future)
        self._starters.shutdown()


def _kill_when_started(future: Future[Machine]) -> None:
    error = future.exception()
    if error is None:
        future.result().kill()
