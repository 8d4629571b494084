"""Which Python runs the programs, and which files of the machine it needs to see."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

from prm.errors import SandboxUnavailable
from prm.verifiers.sandbox.bootstrap import bootstrap_source

# Run by the interpreter itself, so that a build with a shared library names the right one.
_ASK = """
import json, marshal, os, sys, sysconfig
libraries = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({
    "version": sys.version,
    "executable": os.path.realpath(sys.executable),
    "folders": sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}),
    "libraries": sorted(libraries),
    "driver": marshal.dumps(compile(sys.stdin.read(), "driver", "exec")).hex(),
}))
"""
_LIBRARY_FOLDERS = (
    "/lib",
    "/lib64",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its version, and what has to be bound, each at its own path.

    At another path a shared build silently loads another libpython. ``links`` are the symbolic
    links among the system's library folders, as (target, link). ``driver`` is the driver as this
    Python compiles it, in hexadecimal: to compile it in each run would take a tenth of the run.
    """

    executable: str
    version: str
    binds: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    driver: str

    def command(self, records: int) -> list[str]:
        """The driver's command line; ``records`` is the record descriptor."""
        load = "import marshal, sys; exec(marshal.loads(bytes.fromhex(sys.argv.pop())))"
        return [self.executable, "-I", "-S", "-B", "-c", load, str(records), self.driver]


def find_interpreter(wanted: str | None, *, for_others: bool) -> Interpreter:
    """The wanted Python; else the system's, else the one that runs this.

    Args:
        wanted: its path, or None.
        for_others: another user must be able to reach it.

    Raises:
        SandboxUnavailable: none can be used.
    """
    candidates = [wanted] if wanted else ["/usr/bin/python3", sys.executable]
    faults = []
    for candidate in candidates:
        try:
            return _ask(candidate, for_others)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as err:
            faults.append(f"{candidate}: {err}")
    raise SandboxUnavailable(
        "no Python that the sandbox's user could run (" + "; ".join(faults) + ")",
        "install the system's Python (apt-get install python3), or set python to one in a folder "
        "that everybody may read",
    )


def _ask(executable: str, for_others: bool) -> Interpreter:
    """Ask the interpreter about itself.

    Raises:
        ValueError: it is too old, or another user cannot reach it.
    """
    done = subprocess.run(
        [executable, "-I", "-S", "-c", _ASK],
        input=bootstrap_source().encode(),
        capture_output=True,
        timeout=30,
        check=True,
        env={},
    )
    facts = json.loads(done.stdout)
    if tuple(int(part) for part in facts["version"].split(".")[:2]) < (3, 10):
        raise ValueError(f"is Python {facts['version'].split()[0]}; 3.10 or later is needed")
    folders = [path for path in _LIBRARY_FOLDERS if os.path.isdir(path)]
    links = tuple((os.readlink(path).lstrip("/"), path) for path in folders if os.path.islink(path))
    real = [path for path in folders if not os.path.islink(path) and path != "/lib"]
    covered = real + facts["folders"] + [link for _, link in links]
    extra = [path for path in facts["libraries"] if not _is_below(path, covered)]
    binds = [facts["executable"], *facts["folders"], *extra]
    if for_others:
        check_reachable(binds)
    return Interpreter(
        facts["executable"], facts["version"], (*real, *binds), links, facts["driver"]
    )


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def check_reachable(paths: list[str]) -> None:
    """Refuse what only its owner can reach.

    Raises:
        ValueError: other users may not enter a folder on the way, or not read the file.
    """
    for path in paths:
        for folder in (Path(path), *Path(path).parents):
            mode = folder.stat().st_mode
            if not mode & (stat.S_IXOTH if folder.is_dir() else stat.S_IROTH):
                raise ValueError(f"{folder} is closed to other users")
