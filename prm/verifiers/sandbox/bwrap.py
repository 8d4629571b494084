"""The sandbox that bubblewrap makes: namespaces, a bare read-only root, a system call filter.

Never as root: from uid 0, ``/proc/sys/kernel/core_pattern`` can be written inside, which is a way
out, and process limits do not hold. A caller that is root drops to a uid of its own for each slot
(`setpriv`), before bubblewrap starts; any other caller keeps its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from prm.errors import SandboxUnavailable
from prm.verifiers.sandbox.interpreter import Interpreter, find_interpreter
from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.process import Raw, memory_file, run_command
from prm.verifiers.sandbox.protocol import Job, Limits, RunResult, count_workers
from prm.verifiers.sandbox.seccomp import is_supported, seccomp_filter
from prm.verifiers.sandbox.self_test import find_faults, find_root
from prm.verifiers.sandbox.system import find_program, first_uid

# Out of the ranges that systems hand out; the second for containers with 65,536 ids only.
_UID_BASES = (1_879_048_192, 60_600)
_UIDS = 4096
_NAMESPACES = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--unshare-cgroup-try", "--disable-userns",
)  # fmt: skip
# In place of --dev: no terminals, no shared memory, and fewer mounts to make in each run.
_DEVICES = (
    *(word for it in ("null", "zero", "random", "urandom")
      for word in ("--dev-bind", f"/dev/{it}", f"/dev/{it}")),
    "--symlink", "/proc/self/fd", "/dev/fd",
    *(word for number, it in enumerate(("stdin", "stdout", "stderr"))
      for word in ("--symlink", f"/proc/self/fd/{number}", f"/dev/{it}")),
)  # fmt: skip
_HOW_TO_FIX = (
    "on Debian or Ubuntu: apt-get install bubblewrap util-linux; unprivileged user namespaces must "
    "be allowed (sysctl user.max_user_namespaces above 0, "
    "kernel.apparmor_restrict_unprivileged_userns=0 where it exists; in a container they need "
    "--security-opt seccomp=unconfined)"
)


class BwrapSandbox:
    """Runs programs under bubblewrap.

    Args:
        workers: runs at the same time; more wait. None = one a core.
        python: the interpreter that runs the programs; None = the system's.
    """

    name = "bwrap"

    def __init__(self, workers: int | None = None, python: str | None = None) -> None:
        """Look for nothing yet: the first run does.

        Raises:
            ConfigError: there are fewer workers than one.
        """
        self.workers = count_workers(workers)
        self._wanted_python = python
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.workers):
            self._slots.put(slot)
        self._sound = False
        self._lock = threading.Lock()

    def run(self, job: Job, limits: Limits) -> RunResult:
        """Run the job; what the program does is in the result.

        Raises:
            SandboxUnavailable: bubblewrap is absent, or the self-test found a fault.
        """
        self._require_sound()
        return read_result(self.launch(job, limits))

    def self_test(self) -> list[str]:
        """What is not sound here; empty = sound."""
        try:
            faults = find_faults(self.launch, self.interpreter.version)
            return faults + find_root(self.launch, self.interpreter.executable)
        except SandboxUnavailable as err:
            return [err.reason]

    def close(self) -> None:
        """Nothing is held between runs."""

    def launch(
        self, job: Job, limits: Limits, started: Callable[[int], None] = lambda _: None
    ) -> Raw:
        """Run the job without asking whether the sandbox is sound: the self-test's own way in.

        Raises:
            SandboxUnavailable: a program that is needed is absent.
            OSError: it could not be started.
        """
        with self._slot() as slot, memory_file(seccomp_filter()) as filter_fd:

            def command(records: int) -> Sequence[str]:
                return [
                    *self._drop(slot),
                    self.bwrap,
                    *self.arguments(limits, filter_fd),
                    "--",
                    *self.interpreter.command(records),
                ]

            data = job.to_bytes(limits)
            return run_command(command, data, limits, keep=(filter_fd,), started=started)

    def arguments(self, limits: Limits, filter_fd: int) -> list[str]:
        """The arguments of bubblewrap, up to the command to run."""
        interpreter = self.interpreter
        root = [word for path in interpreter.binds for word in ("--ro-bind", path, path)]
        root += [word for pair in interpreter.links for word in ("--symlink", *pair)]
        return [
            *_NAMESPACES,
            "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
            "--clearenv", "--setenv", "PATH", "/usr/bin", "--setenv", "HOME", "/tmp",
            "--setenv", "LANG", "C.UTF-8",
            *root,
            "--proc", "/proc", "--remount-ro", "/proc",
            *_DEVICES,
            "--size", str(limits.scratch_mb << 20), "--tmpfs", "/tmp",
            "--remount-ro", "/", "--chdir", "/tmp",
            "--seccomp", str(filter_fd),
        ]  # fmt: skip

    @functools.cached_property
    def bwrap(self) -> str:
        """The path of bubblewrap."""
        if not is_supported():
            raise SandboxUnavailable(
                f"no system call filter for {os.uname().machine}", "use x86_64 or aarch64"
            )
        return find_program("bwrap", _HOW_TO_FIX)

    @functools.cached_property
    def interpreter(self) -> Interpreter:
        """The Python that runs the programs."""
        return find_interpreter(self._wanted_python, for_others=os.geteuid() == 0)

    def _drop(self, slot: int) -> list[str]:
        """The words before bubblewrap that leave root behind."""
        if os.geteuid() != 0:
            return []
        uid = str(first_uid(_UID_BASES, _UIDS) + slot)
        setpriv = find_program("setpriv", _HOW_TO_FIX)
        return [setpriv, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]

    def _require_sound(self) -> None:
        with self._lock:
            if not self._sound:
                self._look_for_programs()
                faults = self.self_test()
                if faults:
                    raise SandboxUnavailable("bwrap: " + "; ".join(faults), _HOW_TO_FIX)
                self._sound = True

    def _look_for_programs(self) -> None:
        """Raise what is absent with its own remedy, before the self-test runs into it."""
        _ = self.bwrap, self.interpreter, self._drop(0)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[int]:
        slot = self._slots.get()
        try:
            yield slot
        finally:
            self._slots.put(slot)
