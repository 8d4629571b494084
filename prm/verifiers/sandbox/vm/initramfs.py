"""The guest's file system as one archive, the same bytes for the same files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

_FOLDERS = ("dev", "proc", "tmp")
_END = "TRAILER!!!"
# The console that the kernel opens for the first process, before that can make any device.
_CONSOLE = (5, 1)


def write_initramfs(path: Path, root: Path, files: dict[str, tuple[bytes, int]]) -> None:
    """Write all below ``root``, and ``files`` (name: content and mode), as a cpio archive.

    Everything belongs to root and has no time: who built it, and when, leaves no trace. The format
    is the kernel's (Documentation/driver-api/early-userspace/buffer-format.rst), uncompressed.
    """
    with open(path, "wb") as out:
        for number, (name, mode, data, device) in enumerate(_entries(root, files), 1):
            encoded = name.encode() + b"\0"
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
            out.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


def _entries(
    root: Path, files: dict[str, tuple[bytes, int]]
) -> Iterator[tuple[str, int, bytes, tuple[int, int]]]:
    nowhere = (0, 0)
    for name in _FOLDERS:
        yield name, stat.S_IFDIR | 0o755, b"", nowhere
    yield "dev/console", stat.S_IFCHR | 0o600, b"", _CONSOLE
    for name, (data, mode) in sorted(files.items()):
        yield name, stat.S_IFREG | mode, data, nowhere
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield name, stat.S_IFLNK | 0o777, str(path.readlink()).encode(), nowhere
        elif path.is_dir():
            yield name, stat.S_IFDIR | 0o755, b"", nowhere
        else:
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            yield name, stat.S_IFREG | mode, path.read_bytes(), nowhere
    yield _END, 0, b"", nowhere
