"""Run attacks: something on the host to find, the sandbox, and a plain process to compare with."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prm.verifiers.sandbox import Job, Limits, RunResult, Sandbox
from prm.verifiers.sandbox.bootstrap import bootstrap_source
from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.process import run_command
from tests.sandbox_attacks import Attack

SYSTEM_PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
SLEEP = "import time; time.sleep(600)"
GENEROUS = Limits(
    wall_s=20.0, cpu_s=21, memory_mb=1 << 20, max_processes=4096, file_mb=1024, open_files=4096
)


@contextlib.contextmanager
def host_facts() -> Iterator[dict[str, Any]]:
    """Something to find on the host: a file, a folder, listeners, a process, a secret."""
    name = "prm-" + secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prm-attack-")))
        folder.chmod(0o777)
        canary = folder / "canary"
        canary.write_text("secret")
        canary.chmod(0o644)
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + name)
        abstract.listen(16)
        secret = secrets.token_hex(8)
        os.environ["SECRET"] = secret
        stack.callback(os.environ.pop, "SECRET")
        victim = stack.enter_context(
            subprocess.Popen([*unprivileged(), SYSTEM_PYTHON, "-S", "-c", SLEEP, name])
        )
        stack.callback(victim.kill)
        # Until then it is root's, and no attack from outside the sandbox would reach it.
        while (
            not Path(f"/proc/{victim.pid}/cmdline").read_bytes().startswith(SYSTEM_PYTHON.encode())
        ):
            time.sleep(0.002)
        yield {
            "canary": str(canary),
            "folder": str(folder),
            "port": listener.getsockname()[1],
            "name": name,
            "victim": victim.pid,
            "secret": secret,
        }
        assert victim.poll() is None, "the victim was killed"


def unprivileged() -> list[str]:
    """The words before a command that make it an ordinary user's."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv, "setpriv is missing: apt-get install util-linux"
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


def run_plain(job: Job, limits: Limits = GENEROUS, secret: str = "") -> RunResult:
    """Run the same driver without a sandbox."""

    def command(records: int) -> list[str]:
        environment = ["/usr/bin/env", f"SECRET={secret}"] if secret else []
        driver = [SYSTEM_PYTHON, "-I", "-S", "-B", "-c", bootstrap_source(), str(records)]
        return [*unprivileged(), *environment, *driver]

    return read_result(run_command(command, job.to_bytes(limits), limits))


def answer(result: RunResult) -> Any:
    """What the attack returned; a run that told nothing is no evidence."""
    assert result.outcome == "done", result
    assert len(result.records) == 1, result
    assert "value" in result.records[0], result.records
    return result.records[0]["value"]


def processes_named(name: str) -> list[int]:
    """The host's processes with this word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and name.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def assert_stopped(sandbox: Sandbox, attack: Attack, limits: Limits | None = None) -> None:
    with host_facts() as host:
        worked = answer(sandbox.run(attack.job(host), limits or Limits()))
        assert not worked, f"{attack.name} worked: {worked}"
        assert not Path(host["folder"], "written").exists()


def left_behind(name: str) -> list[int]:
    """What is still there a moment after the run."""
    time.sleep(0.2)
    return processes_named(name)
