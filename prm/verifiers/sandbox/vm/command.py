"""The command that starts qemu: the smallest machine that it has, as an unprivileged user, jailed.

The machine is a microvm: one serial port, no disk, no network, no PCI, no ACPI (with which it hangs
at boot under emulation). Around qemu, should a program break out of the machine: a uid that owns
nothing, qemu's own system call filter, and, where bubblewrap works, namespaces without network
and a read-only root that holds nothing but /usr.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import stat
import subprocess
from collections.abc import Sequence

from prm.errors import SandboxUnavailable
from prm.verifiers.sandbox.system import find_program, first_uid, which

PACKAGES = "qemu-system-x86 bubblewrap util-linux"
HOW_TO_FIX = f"on Debian: apt-get install --no-install-recommends {PACKAGES}"
_QEMU = "qemu-system-x86_64"
_KVM = "/dev/kvm"
# Out of the ranges that systems hand out; the second for containers with 65,536 ids only. Apart
# from those of the other sandbox.
_UID_BASES = (1_879_052_288, 64_700)
_UIDS = 64
_KERNEL_OPTIONS = (
    "quiet panic=-1 reboot=t edd=off no_timer_check tsc=reliable i8042.noaux i8042.nokbd "
    # Freed memory is cleared, so that it takes no room in the snapshot.
    "init_on_free=1"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Hardware:
    """What a snapshot fits: ``accelerator`` is kvm or tcg (emulation), memory in MiB."""

    accelerator: str
    memory_mb: int

    def arguments(self) -> list[str]:
        """The arguments that must be the same when a snapshot is made and when it is used."""
        is_kvm = self.accelerator == "kvm"
        return [
            "-M", "microvm,acpi=off,pit=on,pic=on,rtc=off,isa-serial=on",
            "-accel", "kvm" if is_kvm else "tcg,tb-size=64",
            "-cpu", "host" if is_kvm else "max",
            "-m", str(self.memory_mb), "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ]  # fmt: skip


def qemu_command(hardware: Hardware, serial: int, control: int, slot: int) -> list[str]:
    """The command up to what distinguishes a boot from a restored snapshot.

    ``serial`` and ``control`` (QMP) are descriptors of connected sockets, ``slot`` chooses the uid.
    """
    return [
        *_drop(slot, hardware.accelerator == "kvm"),
        *(_jail(hardware.accelerator == "kvm") if can_jail() else []),
        find_program(_QEMU, HOW_TO_FIX),
        *hardware.arguments(),
        "-name", machine_name(os.getpid()),
        "-chardev", f"socket,id=serial,fd={serial}", "-serial", "chardev:serial",
        "-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control",
    ]  # fmt: skip


def machine_name(process: int) -> str:
    """What the list of processes shows for the machines that this process started."""
    return f"prm-vm-of-{process}"


def boot_arguments(kernel: str, initramfs: str) -> list[str]:
    """The arguments that boot from files."""
    return ["-kernel", kernel, "-initrd", initramfs, "-append", _KERNEL_OPTIONS]


@functools.cache
def qemu_version() -> str:
    """What qemu says of itself: a snapshot belongs to one version.

    Raises:
        SandboxUnavailable: it is absent, or this is no x86_64.
    """
    if platform.machine() != "x86_64":
        raise SandboxUnavailable(
            f"the virtual machine is made for x86_64, not {platform.machine()}",
            "use the sandbox bwrap",
        )
    done = subprocess.run(
        [find_program(_QEMU, HOW_TO_FIX), "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.splitlines()[0]


@functools.cache
def can_jail() -> bool:
    """Does bubblewrap work here? It needs unprivileged user namespaces, and qemu does not."""
    if which("bwrap") is None:
        return False
    command = [*_drop(0, False), *_jail(False), "/usr/bin/true"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def can_use_kvm() -> bool:
    """May the user that qemu runs as open /dev/kvm?"""
    if not os.path.exists(_KVM):
        return False
    if os.geteuid() != 0:
        return os.access(_KVM, os.R_OK | os.W_OK)
    mode = os.stat(_KVM).st_mode
    everybody = stat.S_IROTH | stat.S_IWOTH
    group = stat.S_IRGRP | stat.S_IWGRP
    return mode & everybody == everybody or (mode & group == group and os.stat(_KVM).st_gid != 0)


def _drop(slot: int, is_kvm: bool) -> list[str]:
    """The words that leave root behind, and end qemu with the thread that started it."""
    words = [find_program("setpriv", HOW_TO_FIX), "--pdeathsig", "KILL", "--no-new-privs"]
    if os.geteuid() == 0:
        uid = first_uid(_UID_BASES, _UIDS) + slot % _UIDS
        groups = ["--groups", str(os.stat(_KVM).st_gid)] if is_kvm else ["--clear-groups"]
        words += ["--reuid", str(uid), "--regid", str(uid), *groups]
    return [*words, "--"]


def _jail(is_kvm: bool) -> Sequence[str]:
    links = [word for name in ("lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")]
    return [
        find_program("bwrap", HOW_TO_FIX),
        "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
        "--ro-bind", "/usr", "/usr", *links,
        "--proc", "/proc", "--remount-ro", "/proc",
        "--dev", "/dev", *(["--dev-bind", _KVM, _KVM] if is_kvm else []), "--remount-ro", "/dev",
        "--remount-ro", "/", "--chdir", "/", "--",
    ]  # fmt: skip
