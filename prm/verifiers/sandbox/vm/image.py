"""The guest's image: built once from Debian's packages, booted once, then restored for each run.

    ~/.cache/stepwise-prm/vm/<key>/snapshot        the machine, its Python waiting for a job
                                  /manifest.json   what it is made of

The key is of all that the snapshot depends on, so an image of another version is never used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from prm.errors import SandboxUnavailable
from prm.verifiers.sandbox.bootstrap import bootstrap_source
from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.protocol import Call, Job, Limits
from prm.verifiers.sandbox.seccomp import seccomp_filter
from prm.verifiers.sandbox.vm.command import (
    Hardware,
    boot_arguments,
    can_use_kvm,
    qemu_version,
)
from prm.verifiers.sandbox.vm.initramfs import write_initramfs
from prm.verifiers.sandbox.vm.machine import Machine
from prm.verifiers.sandbox.vm.packages import fetch, kernel_image, python_path

MEMORY_MB = 1536
"""The machine's memory: the default limit of a program, its files, and the kernel."""
GUEST_MB = 384
"""What of it the program cannot have."""
_BUILD = "build the guest's image: python -m prm.verifiers.sandbox.vm build"
_BOOT_S = {"kvm": 30.0, "tcg": 180.0}
_SPIN = """
import time

def spin(turns):
    best = float("inf")
    for _ in range(20):
        start, total = time.perf_counter(), 0
        for i in range(turns):
            total += i * i % 7
        best = min(best, time.perf_counter() - start)
    return best
"""
_TURNS = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A built image. ``slowdown``: how many times longer a computation takes than on the host."""

    snapshot: Path
    hardware: Hardware
    python: str
    slowdown: float

    def restore(self, slot: int) -> Machine:
        """A new machine, running, its driver waiting for the job.

        Raises:
            SandboxUnavailable: it did not start.
        """
        descriptor = os.open(self.snapshot, os.O_RDONLY)
        try:
            incoming = ["-incoming", f"fd:{descriptor}"]
            machine = Machine(self.hardware, incoming, keep=(descriptor,), slot=slot)
        finally:
            os.close(descriptor)
        try:
            machine.wait_until_running()
        except SandboxUnavailable:
            machine.kill()
            raise
        return machine


def find_image(cache: str | Path | None = None) -> Image:
    """The image that fits this version, this qemu and this guest.

    Raises:
        SandboxUnavailable: it was not built.
    """
    folder = _folder(cache)
    try:
        row = json.loads((folder / "manifest.json").read_bytes())
    except FileNotFoundError:
        raise SandboxUnavailable(f"there is no {folder}", _BUILD) from None
    hardware = Hardware(row["accelerator"], row["memory_mb"])
    return Image(folder / "snapshot", hardware, row["python"], row["slowdown"])


def build_image(
    cache: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    *,
    again: bool = False,
) -> Image:
    """Build the image, or find it built; ``say`` is told what is done.

    With KVM where a machine boots and answers with it, by emulation otherwise. ``again`` replaces
    a built one, with the packages of today.

    Raises:
        SandboxUnavailable: a program or package is absent, or the machine does not work.
    """
    folder = _folder(cache)
    if again or not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Another process may do the same: each makes its own, the first to finish wins.
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            made, old = Path(name, "image"), Path(name, "old")
            made.mkdir()
            _build(made, say)
            if again and folder.exists():
                folder.rename(old)
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    return find_image(cache)


def _folder(cache: str | Path | None) -> Path:
    home = Path(cache or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "stepwise-prm" / "vm" / _key()


def _key() -> str:
    parts = [qemu_version(), str(Hardware("tcg", MEMORY_MB).arguments()), bootstrap_source()]
    parts += [_source(name) for name in ("guest", "command", "packages", "initramfs")]
    parts.append(seccomp_filter().hex())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _source(module: str) -> str:
    file = resources.files("prm.verifiers.sandbox.vm").joinpath(f"{module}.py")
    return file.read_text(encoding="utf-8")


def _build(into: Path, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="prm-vm-") as name:
        work = Path(name)
        say("downloading Debian's kernel and Python")
        packages = fetch(work)
        root, initramfs = work / "root", work / "initramfs"
        interpreter = python_path(root)
        files = {
            "init": (f"#!{interpreter} -ISB\n{_source('guest')}".encode(), 0o755),
            "bootstrap": (bootstrap_source().encode(), 0o644),
            "filter": (seccomp_filter(), 0o644),
        }
        write_initramfs(initramfs, root, files)
        say(f"{initramfs.stat().st_size >> 20} MiB for the guest, SHA-256 {_sha256(initramfs)}")
        row = _first_that_works(kernel_image(work), initramfs, into / "snapshot", say)
        row |= {"qemu": qemu_version(), "guest": _sha256(initramfs), "packages": packages}
    (into / "manifest.json").write_text(json.dumps(row, indent=1), encoding="utf-8")


def _first_that_works(
    kernel: Path, initramfs: Path, snapshot: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Boot with KVM, else by emulation; save the machine, restore it, try it."""
    if can_use_kvm():
        say("booting with KVM")
        try:
            return _boot_and_try(Hardware("kvm", MEMORY_MB), kernel, initramfs, snapshot)
        except SandboxUnavailable as err:
            say(f"not with KVM: {err.reason}")
            snapshot.unlink(missing_ok=True)
    say("booting by emulation")
    return _boot_and_try(Hardware("tcg", MEMORY_MB), kernel, initramfs, snapshot)


def _boot_and_try(
    hardware: Hardware, kernel: Path, initramfs: Path, snapshot: Path
) -> dict[str, Any]:
    begin = time.monotonic()
    with _open(kernel) as first, _open(initramfs) as second:
        # The jail shows neither file, but a process may open again what it holds.
        arguments = boot_arguments(f"/proc/self/fd/{first}", f"/proc/self/fd/{second}")
        with Machine(hardware, arguments, keep=(first, second), slot=0) as machine:
            machine.wait_until_running()
            python = machine.wait_for_driver(_BOOT_S[hardware.accelerator])
            boot_s = time.monotonic() - begin
            machine.save(str(snapshot))
    slowdown = _measure_slowdown(Image(snapshot, hardware, python, 1.0))
    return {
        **dataclasses.asdict(hardware),
        "python": python,
        "slowdown": slowdown,
        "boot_s": round(boot_s, 1),
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    with open(path, "rb") as file:
        yield file.fileno()


def _measure_slowdown(image: Image) -> float:
    """How many times longer a loop takes inside; the first run of a new image."""
    limits = Limits(wall_s=60.0, cpu_s=61)
    data = Job(_SPIN, "spin", (Call((_TURNS,)),)).to_bytes(limits)
    with image.restore(0) as machine:
        raw, ended = machine.run(data, limits, scratch_mb=limits.scratch_mb)
    result = read_result(raw)
    inside = result.records[0].get("value") if result.records else None
    if ended != "itself" or not isinstance(inside, float):
        raise SandboxUnavailable(
            f"a restored machine does not work: {result.detail or result.outcome}", _BUILD
        )
    names: dict[str, Any] = {}
    exec(_SPIN, names)
    return round(max(inside / float(names["spin"](_TURNS)), 1.0), 1)
