"""Debian's kernel and Python for the guest, downloaded and unpacked, not installed."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from prm.errors import SandboxUnavailable

KERNEL = "linux-image-cloud-amd64"
# What Python's standard library links to. perl, dpkg and the like, which the packages of Python
# depend on for their installation, are not needed.
_LIBRARIES = (
    "libc6", "libgcc-s1", "libcrypt1", "zlib1g", "libexpat1", "libffi8", "liblzma5", "libbz2-1.0",
    "libssl3", "libuuid1", "libsqlite3-0",
)  # fmt: skip
_UNUSED = (
    "usr/share", "etc", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/engines-3",
)  # fmt: skip
_UNUSED_MODULES = (
    "test", "idlelib", "lib2to3", "tkinter", "turtledemo", "pydoc_data", "ensurepip", "distutils",
)  # fmt: skip
_HOW_TO_FIX = "the guest is built from the packages of Debian 12: run `apt-get update` first"


def fetch(folder: Path) -> dict[str, str]:
    """Download the packages and unpack them into ``kernel`` and ``root`` below the folder.

    Returns:
        The SHA-256 of each package file, by its name, which carries the version.

    Raises:
        SandboxUnavailable: apt or dpkg is absent, or has no such package.
    """
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise SandboxUnavailable(f"{program} is not installed", _HOW_TO_FIX)
    kernel = _dependency(KERNEL, r"linux-image-\S+-cloud-amd64")
    python = _dependency("python3-minimal", r"python3\.\d+-minimal")
    names = [python, f"lib{python}", f"lib{python.replace('minimal', 'stdlib')}", *_LIBRARIES]
    hashes = _unpack([kernel], folder / "debs-kernel", folder / "kernel")
    hashes |= _unpack(names, folder / "debs-root", folder / "root")
    for path in _UNUSED:
        shutil.rmtree(folder / "root" / path, ignore_errors=True)
    _compile_library(folder / "root", python.removesuffix("-minimal"))
    return hashes


def kernel_image(folder: Path) -> Path:
    """The kernel that `fetch` unpacked."""
    (path,) = (folder / "kernel" / "boot").glob("vmlinuz-*")
    return path


def python_path(root: Path) -> str:
    """The guest's interpreter, as seen in the guest."""
    (path,) = (root / "usr" / "bin").glob("python3.*[0-9]")
    return f"/usr/bin/{path.name}"


def _dependency(package: str, pattern: str) -> str:
    """The package with a version in its name that Debian's package without one stands for."""
    found = re.search(rf"Depends: ({pattern})\n", _run("apt-cache", "depends", package))
    if found is None:
        raise SandboxUnavailable(f"apt knows no {package}", _HOW_TO_FIX)
    return found[1]


def _unpack(names: list[str], debs: Path, into: Path) -> dict[str, str]:
    debs.mkdir()
    # Wherever apt runs as root it would rather download as its own user, who cannot write here.
    _run("apt-get", "-o", "APT::Sandbox::User=root", "download", *names, cwd=debs)
    hashes = {}
    for path in sorted(debs.iterdir()):
        hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        _run("dpkg-deb", "-x", str(path), str(into))
    return hashes


def _compile_library(root: Path, python: str) -> None:
    """Compile the standard library, which in an emulated machine costs more than loading it.

    The guest's own Python does it: another version's files would not be used.
    """
    library = root / "usr" / "lib" / python
    for name in _UNUSED_MODULES:
        shutil.rmtree(library / name, ignore_errors=True)
    folders = [root / "lib" / "x86_64-linux-gnu", root / "usr" / "lib" / "x86_64-linux-gnu"]
    # Not by its usual name below lib64: that is an absolute link, here to the host's own.
    loader = [str(folders[0] / "ld-linux-x86-64.so.2"), "--library-path"]
    script = (
        f"import sys; sys.path[:] = [{str(library)!r}, {str(library / 'lib-dynload')!r}]\n"
        "import compileall, py_compile\n"
        f"compileall.compile_dir({str(library)!r}, quiet=2, stripdir={str(root)!r},"
        " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)\n"
    )
    interpreter = str(root / "usr" / "bin" / python)
    # With a fixed seed, so that sets among the constants lie in the same order each time.
    command = [*loader, ":".join(map(str, folders)), interpreter, "-sSPB", "-c", script]
    _run(*command, environment={"PYTHONHASHSEED": "0"})


def _run(*command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxUnavailable(
            f"{' '.join(command[:4])} failed: {done.stderr.strip()[-500:]}", _HOW_TO_FIX
        )
    return done.stdout
