"""Run one command under the host's limits: its wall clock and the caps on what it writes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from prm.verifiers.sandbox.protocol import Limits

Stopped = Literal["", "timeout", "output_limit", "survived"]
_CHUNK = 1 << 16
_START_S = 30.0
"""Seconds until the driver's hello; on a busy machine a sandbox may take long to make."""
_GRACE_S = 5.0
"""Seconds for the processes of a killed run to disappear."""
_STDERR_FACTOR = 16
"""Only the end of stderr is kept; a program that floods it is stopped all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Raw:
    """What a command left: bytes, exit code, and why it was stopped ("" = it ended itself).

    ``survived``: it was killed, and something of it still holds its pipes. ``stderr`` is the end.
    """

    records: bytes
    stdout: bytes
    stderr: bytes
    exit_code: int
    stopped: Stopped
    seconds: float


@contextlib.contextmanager
def memory_file(data: bytes) -> Iterator[int]:
    """A descriptor that reads ``data`` from its beginning, with no name in the file system."""
    descriptor = os.memfd_create("prm")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _process_file(process: int) -> Iterator[int]:
    """A descriptor that is readable once the process has ended; waiting by time would poll."""
    descriptor = os.pidfd_open(process)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run_command(
    command: Callable[[int], Sequence[str]],
    stdin: bytes,
    limits: Limits,
    *,
    keep: Sequence[int] = (),
    started: Callable[[int], None] = lambda _: None,
) -> Raw:
    """Run ``command(record_descriptor)`` in a process group of its own until it ends or is killed.

    ``keep`` are descriptors that it inherits beside the record pipe. ``started`` is told its
    process id. No function of ours runs between fork and exec, so that Python takes vfork: it is
    safe beside threads and CUDA, and costs the same however large this process is.

    Raises:
        OSError: it could not be started.
    """
    begin = time.monotonic()
    process, records = _start(command, stdin, keep)
    started(process.pid)
    with open(records, "rb", buffering=0) as pipe, process:
        watch = _Watch(process, pipe.fileno(), limits, begin)
        try:
            return watch.until_end()
        finally:
            watch.kill()


def _start(
    command: Callable[[int], Sequence[str]], stdin: bytes, keep: Sequence[int]
) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of its record pipe."""
    records, inner = os.pipe()
    try:
        with memory_file(stdin) as job:
            process = subprocess.Popen(
                command(inner),
                stdin=job,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(inner, *keep),
                start_new_session=True,
                env={},
                cwd="/",
                bufsize=0,
            )
    except BaseException:
        os.close(records)
        raise
    finally:
        os.close(inner)
    return process, records


class _Watch:
    def __init__(
        self, process: subprocess.Popen[bytes], records: int, limits: Limits, begin: float
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process, self.limits, self.begin = process, limits, begin
        self.deadline = begin + _START_S
        self.pipes = {
            "records": records,
            "stdout": process.stdout.fileno(),
            "stderr": process.stderr.fileno(),
        }
        self.parts: dict[str, list[bytes]] = {name: [] for name in self.pipes}
        self.sizes = dict.fromkeys(self.pipes, 0)
        self.tail = b""

    def until_end(self) -> Raw:
        stopped = self._read()
        seconds = time.monotonic() - self.begin
        if stopped:
            self.kill()
            stopped = stopped if self._is_gone() else "survived"
        return Raw(
            records=b"".join(self.parts["records"]),
            stdout=b"".join(self.parts["stdout"]),
            stderr=self.tail,
            exit_code=self.process.wait(),
            stopped=stopped,
            seconds=seconds,
        )

    def kill(self) -> None:
        """Kill the whole group; the sandbox's first process dies with its parent, all with it."""
        # Not yet waited for, so the number is still its own.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read(self) -> Stopped:
        """Read all pipes to their end and wait for the process's, or say why not."""
        with selectors.DefaultSelector() as selector, _process_file(self.process.pid) as process:
            for name, descriptor in self.pipes.items():
                selector.register(descriptor, selectors.EVENT_READ, name)
            selector.register(process, selectors.EVENT_READ, None)
            while selector.get_map():
                left = self.deadline - time.monotonic()
                if left <= 0:
                    return "timeout"
                for key, _ in selector.select(left):
                    data = os.read(key.fd, _CHUNK) if key.data else b""
                    if not data:
                        selector.unregister(key.fd)
                    elif self._is_too_much(key.data, data):
                        return "output_limit"
        return ""

    def _is_too_much(self, name: str, data: bytes) -> bool:
        """Keep the data; is it more than the limit?"""
        cap = self.limits.output_bytes
        if name == "records" and not self.parts[name]:
            # The driver's hello: from here on the program is what takes the time.
            self.deadline = time.monotonic() + self.limits.wall_s
        self.sizes[name] += len(data)
        if name == "stderr":
            self.tail = (self.tail + data)[-self.limits.error_bytes :]
            return self.sizes[name] > cap * _STDERR_FACTOR
        self.parts[name].append(data)
        return self.sizes["records"] + self.sizes["stdout"] > cap

    def _is_gone(self) -> bool:
        """True once nobody holds the pipes: no process of the run is left."""
        end = time.monotonic() + _GRACE_S
        with selectors.DefaultSelector() as selector:
            for name, descriptor in self.pipes.items():
                selector.register(descriptor, selectors.EVENT_READ, name)
            while selector.get_map() and time.monotonic() < end:
                for key, _ in selector.select(end - time.monotonic()):
                    if not os.read(key.fd, _CHUNK):
                        selector.unregister(key.fd)
            return not selector.get_map()
