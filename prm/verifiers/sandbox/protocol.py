"""What goes into a sandbox, what comes out, and what every backend must promise.

A `Job` is a program and its inputs. What the program should answer is no part of it: expected
values never enter a sandbox, the host compares (`prm.verifiers.code`).

Inside, every backend runs the same small driver (`prm.verifiers.sandbox.bootstrap`):

    python3 -I -S -B -c BOOTSTRAP RECORD_FD

    fd 0           the job with its limits, `Job.to_bytes`, up to the end of file
    fd 1, fd 2     what the program prints
    RECORD_FD      JSON lines: {"hello": "3.11.2 (main, ...)"} first, once the limits are set;
                   then, for calls, {"call": 0, "value": ...} or {"call": 0, "raised": "..."}
"""

from __future__ import annotations

import dataclasses
import marshal
import math
import os
from typing import Any, Literal, Protocol

from prm.errors import ConfigError
from prm.verifiers.sandbox.values import encode

Outcome = Literal["done", "timeout", "memory", "output_limit", "crash", "bad_output", "error"]
"""How a run ended. ``error`` is a fault of the sandbox; all others are the program's doing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. The wall clock is the host's; the others hold inside the sandbox."""

    wall_s: float = 5.0
    """Seconds from the driver's hello to the end; then the whole run is killed."""
    cpu_s: int = 0
    """Seconds of processor time; a backstop above ``wall_s``. 0 = a second more than that."""
    memory_mb: int = 1024
    """Address space of each process, in MiB."""
    max_processes: int = 1
    """Processes and threads together. With 1, ``memory_mb`` bounds the whole run."""
    file_mb: int = 16
    """Size of one written file, in MiB."""
    scratch_mb: int = 64
    """Room in /tmp, in MiB; gone when the run ends."""
    open_files: int = 64
    """File descriptors."""
    output_bytes: int = 262_144
    """Bytes of printed text and records together; more ends the run."""
    error_bytes: int = 16_384
    """Bytes of stderr that are kept, from its end."""

    def __post_init__(self) -> None:
        """Derive what is not given, and refuse limits under which nothing could run.

        Raises:
            ConfigError: a limit is not above zero, or cpu_s is below wall_s.
        """
        if self.cpu_s == 0 and self.wall_s > 0:
            object.__setattr__(self, "cpu_s", math.ceil(self.wall_s) + 1)
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigError(
                    f"limit {field.name}: {getattr(self, field.name)} is not above zero"
                )
        if self.cpu_s < self.wall_s:
            raise ConfigError(
                f"limit cpu_s: {self.cpu_s} is below wall_s ({self.wall_s}); "
                "the wall clock should be what ends a run, so set it above"
            )


def count_workers(workers: int | None) -> int:
    """How many at the same time; None = one a core.

    Raises:
        ConfigError: fewer than one.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}: should be 1 or more, or None for one a core")
    return workers or os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A program and its inputs.

    With ``entry`` (``"name"`` or ``"Class.method"``), the program is loaded and that function is
    called once for each of ``calls``. Without, it is run as a script that reads ``stdin``.
    """

    code: str
    entry: str | None = None
    calls: tuple[Call, ...] = ()
    stdin: str = ""

    def to_bytes(self, limits: Limits) -> bytes:
        """The job and the limits to be set inside, as the driver reads them.

        Raises:
            ValueError: an argument is of a type that cannot travel.
        """
        calls = [
            {"args": encode(list(call.args)), "kwargs": encode(dict(call.kwargs))}
            for call in self.calls
        ]
        row: dict[str, object] = {
            "code": self.code,
            "entry": self.entry,
            "calls": calls,
            "stdin": self.stdin,
            "limits": dataclasses.asdict(limits),
        }
        # Version 2 reads the same in every Python 3; nothing that comes back is ever unmarshalled.
        return marshal.dumps(row, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class RunResult:
    """What came out of one run; all of it is text that the program may have forged.

    ``records`` are the parsed JSON lines after the hello. ``python`` is the version that the
    hello told. ``detail`` says why the outcome is not ``done``.
    """

    outcome: Outcome
    records: tuple[Any, ...] = ()
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    seconds: float = 0.0
    python: str = ""
    detail: str = ""


class Sandbox(Protocol):
    """Runs a program where it can neither see nor change anything else.

    Thread-safe: `run` may be called from many threads at once.
    """

    name: str
    """The backend, as it is recorded in the verdicts."""

    def self_test(self) -> list[str]:
        """What is not sound here, in sentences; empty = sound."""
        ...

    def run(self, job: Job, limits: Limits) -> RunResult:
        """Run the job and wait for its end; never raises because of what the program does.

        Raises:
            SandboxUnavailable: the self-test, made before the first run, found a fault.
        """
        ...

    def close(self) -> None:
        """Give back what the backend holds; a second call does nothing."""
        ...
