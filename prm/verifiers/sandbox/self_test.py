"""Is a sandbox sound? A program tries what must not work, before any other program is run."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.process import Raw
from prm.verifiers.sandbox.protocol import Call, Job, Limits, RunResult

# What it tries does no harm where it works.
_PROBE = """
import os, resource, socket

def read(path):
    with open(path, "rb") as file:
        file.read(64)

def write(path):
    open(path, "ab").close()

def connect(port):
    with socket.socket() as link:
        link.settimeout(1)
        link.connect(("127.0.0.1", port))

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

def works(action, *args):
    try:
        action(*args)
    except OSError:
        return False
    return True

def probe(canary, port):
    worked = {
        "a file of the host can be read": works(read, canary),
        "a folder of the host can be written": works(write, canary + ".written"),
        "/etc/passwd can be read": works(read, "/etc/passwd"),
        "the root can be written": works(write, "/written"),
        "core_pattern can be written": works(os.open, "/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "a port of the host can be reached": works(connect, port),
        "a socket can be made": works(socket.socket, socket.AF_UNIX),
        "a process can be made": works(fork),
    }
    with open("/proc/self/status") as file:
        status = dict(line.rstrip().split(":", 1) for line in file)
    return {
        "worked": [name for name, value in worked.items() if value],
        "status": {name: value.strip() for name, value in status.items()},
        "memory": resource.getrlimit(resource.RLIMIT_AS)[1],
        "environment": sorted(os.environ),
    }
"""
_SLEEP = "import time\nwhile True:\n    time.sleep(1)\n"
_LIMITS = Limits(wall_s=20.0, cpu_s=21)
_ENVIRONMENT = {"HOME", "LANG", "LC_CTYPE", "PATH", "PWD"}

Launch = Callable[[Job, Limits], Raw]
ObservedLaunch = Callable[[Job, Limits, Callable[[int], None]], Raw]


def find_faults(launch: Launch, version: str) -> list[str]:
    """What the probe could do and should not, in sentences; empty = sound.

    ``version`` is that of the Python that should answer.
    """
    with _bait() as (canary, port):
        job = Job(_PROBE, "probe", (Call((str(canary), port)),))
        try:
            result = read_result(launch(job, _LIMITS))
        except OSError as err:
            return [f"it could not be started: {err}"]
        is_written = canary.with_name(canary.name + ".written").exists()
    faults = ["a file was written into a folder of the host"] if is_written else []
    return faults + _judge(result, version)


def find_root(launch: ObservedLaunch, executable: str) -> list[str]:
    """What is wrong with the uid that the host sees; from inside it cannot be told."""
    seen: list[str] = []

    def look(process: int) -> None:
        thread = threading.Thread(
            target=_watch_driver, args=(process, executable, seen), daemon=True
        )
        thread.start()

    try:
        launch(Job(_SLEEP), _LIMITS, look)
    except OSError as err:
        return [f"it could not be started: {err}"]
    if not seen:
        return ["the program's process could not be found from outside"]
    return ["the program runs as root, seen from outside"] if "0" in seen else []


def _judge(result: RunResult, version: str) -> list[str]:
    if result.outcome != "done" or len(result.records) != 1:
        return [f"the self-test did not run: {result.detail or result.outcome}"]
    facts = result.records[0].get("value")
    if not isinstance(facts, dict):
        return [f"the self-test did not run: {json.dumps(result.records[0])[:300]}"]
    return list(facts["worked"]) + _judge_facts(facts, result.python, version)


def _judge_facts(facts: Mapping[str, Any], python: str, version: str) -> list[str]:
    status, faults = facts["status"], []
    if python != version:
        faults.append(f"Python {python!r} ran in place of {version!r}")
    if status.get("Seccomp") != "2":
        faults.append("there is no system call filter")
    if status.get("NoNewPrivs") != "1":
        faults.append("privileges can be gained")
    if any(int(status.get(name, "1"), 16) for name in ("CapEff", "CapPrm", "CapBnd")):
        faults.append("there are capabilities")
    if "0" in status.get("Uid", "0").split():
        faults.append("the program is root inside")
    if facts["memory"] != _LIMITS.memory_mb << 20:
        faults.append("the memory limit is not set")
    if extra := set(facts["environment"]) - _ENVIRONMENT:
        faults.append(f"the environment holds {sorted(extra)}")
    return faults


@contextlib.contextmanager
def _bait() -> Iterator[tuple[Path, int]]:
    """A file that everybody on the host may read, in a folder that all may write; a port."""
    with tempfile.TemporaryDirectory(prefix="prm-canary-") as name, socket.socket() as listener:
        folder = Path(name)
        folder.chmod(0o777)
        canary = folder / "canary"
        canary.write_text(secrets.token_hex(16), encoding="ascii")
        canary.chmod(0o644)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield canary, listener.getsockname()[1]


def _watch_driver(process: int, executable: str, seen: list[str]) -> None:
    """Note the uids of the driver below ``process`` once it runs, then end the run."""
    while os.path.exists(f"/proc/{process}"):
        for child in _descendants(process):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if command.startswith(executable.encode() + b"\0"):
                    seen.extend(_uids(child))
                    os.killpg(process, signal.SIGKILL)
                    return
        time.sleep(0.005)


def _descendants(process: int) -> list[int]:
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{name}/stat").read_bytes()
            parents[int(name)] = int(stat.rpartition(b")")[2].split()[1])
    found = [process]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def _uids(process: int) -> list[str]:
    """Real, effective, saved and file system uid."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(line.split()[1:] for line in lines if line.startswith("Uid:"))
