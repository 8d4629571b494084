"""What a backend takes from the machine: its programs, and the uids that runs drop to."""

from __future__ import annotations

import functools
import shutil

from prm.errors import SandboxUnavailable

_PATH = "/usr/bin:/bin:/usr/local/bin"


def which(name: str) -> str | None:
    """The program's path, from the system's folders only; None = it is absent."""
    return shutil.which(name, path=_PATH)


def find_program(name: str, how_to_fix: str) -> str:
    """Likewise.

    Raises:
        SandboxUnavailable: it is absent.
    """
    path = which(name)
    if path is None:
        raise SandboxUnavailable(f"{name} is not installed", how_to_fix)
    return path


@functools.cache
def first_uid(bases: tuple[int, ...], count: int) -> int:
    """The first of ``bases`` from which ``count`` uids exist in this user namespace.

    Raises:
        SandboxUnavailable: there is none.
    """
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [[int(part) for part in line.split()] for line in file]
    for base in bases:
        if any(first <= base and base + count <= first + size for first, _, size in ranges):
            return base
    raise SandboxUnavailable(
        "this user namespace has no uid to drop to", "run as an ordinary user instead of root"
    )
