"""JSON files, lines behind others, locks: with errors that say what to do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from prm.errors import StoreError


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of an error of the disk where it happened and what to do.

    Raises:
        StoreError: the disk refused: it is full, broken, or not ours to write.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error}); make room or mend it, then start the same "
            "command again: what was written whole stays, the rest is made again"
        ) from error


def write_json(path: Path, value: object) -> None:
    """Write a JSON file in one piece: readers see the old one or the new one.

    Raises:
        StoreError: the disk refused.
    """
    temporary = path.with_suffix(path.suffix + ".tmp")
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


def append(path: Path, text: str) -> None:
    """Write behind what a file holds; afterwards it is on the disk.

    Raises:
        StoreError: the disk refused.
    """
    with explained(path), path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StoreError: it is not readable.
    """
    return parse(path.read_text(), path)


def parse(text: str, path: Path) -> dict[str, Any]:
    """A JSON object from the text of a file; raises as `read_json` does."""
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{path} is not readable JSON ({error}); delete the folder") from error
    return value


def take_lock(folder: Path, stem: str, *, shared: bool = False) -> IO[str]:
    """Hold ``{folder}/{stem}.lock`` as long as this process lives, also when its parent was killed.

    ``shared``: beside others that do so too, against one who writes. Closing the file lets go.

    Raises:
        StoreError: another process holds it, or the file system has no locks.
    """
    # For reading and writing: NFS turns flock into locks that each need one of the two.
    file = (folder / f"{stem}.lock").open("a+")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StoreError(
            f"{folder}: another process is writing {stem}; wait for it or stop it first"
        ) from error
    except OSError as error:
        file.close()
        raise StoreError(
            f"{folder}: this file system cannot lock files ({error}); mount it with "
            "flock, or write to another one"
        ) from error
    return file
