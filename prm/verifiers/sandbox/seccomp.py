"""The system calls that a program in the sandbox may not make, as a filter for the kernel.

A deny list of what no honest program needs and what past escapes used. It is assembled here rather
than by libseccomp: a filter is a list of 8-byte instructions (``struct sock_filter``), and this way
nothing has to be installed. Numbers: the kernel's ``syscall_64.tbl`` and ``asm-generic/unistd.h``.
"""

from __future__ import annotations

import errno
import platform
import struct

# name: (x86_64, aarch64); None = the architecture has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # The network. A pair of connected sockets (socketpair) reaches nobody and is allowed.
    "socket": (41, 198),
    # Memory that no limit of ours counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy": (238, 237),
    # Large parts of the kernel that are often attacked.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "vmsplice": (278, 75),
    "fanotify_init": (300, 262),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    # The machine.
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
}
_CLONE3 = 435
_CLONE = (56, 220)
_IOCTL = (16, 29)
_CLONE_NEW = 0x7E020000
"""All flags of clone that make a namespace (without CLONE_NEWTIME, which clone cannot carry)."""
_TTY_REQUESTS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: type into the terminal of whoever started us."""

# (column of the table, AUDIT_ARCH_*, first number of the x32 calls)
_ARCHITECTURES = {
    "x86_64": (0, 0xC000003E, 0x40000000),
    "aarch64": (1, 0xC00000B7, None),
}

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS


def is_supported(machine: str | None = None) -> bool:
    """Is there a filter for this architecture (default: this machine's)?"""
    return (machine or platform.machine()) in _ARCHITECTURES


def seccomp_filter(machine: str | None = None) -> bytes:
    """The filter's instructions, as ``bwrap --seccomp`` reads them.

    Raises:
        KeyError: the architecture has none (`is_supported`).
    """
    column, arch, x32 = _ARCHITECTURES[machine or platform.machine()]
    program = [
        _step(_LOAD, _ARCH),
        _step(_JUMP_EQUAL, arch, skip_if=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if x32 is not None:
        program += _on(_JUMP_AT_LEAST, x32, _EPERM)
    # ENOSYS, so that libc falls back to clone, whose flags can be looked at.
    program += _on(_JUMP_EQUAL, _CLONE3, _ENOSYS)
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            program += _on(_JUMP_EQUAL, number, _EPERM)
    for call, offset, checks in (
        (_CLONE, _FIRST_ARGUMENT, _on(_JUMP_ANY_BIT, _CLONE_NEW, _EPERM)),
        (_IOCTL, _SECOND_ARGUMENT, _on(_JUMP_EQUAL, _TTY_REQUESTS[0], _EPERM)),
        (_IOCTL, _SECOND_ARGUMENT, _on(_JUMP_EQUAL, _TTY_REQUESTS[1], _EPERM)),
    ):
        # Load an argument's lower half, check it, load the number again.
        block = [_step(_LOAD, offset), *checks, _step(_LOAD, _NUMBER)]
        program += [_step(_JUMP_EQUAL, call[column], skip_else=len(block)), *block]
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def _on(test: int, value: int, result: int) -> list[bytes]:
    return [_step(test, value, skip_else=1), _step(_RETURN, result)]


def _step(code: int, value: int, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_else, value)
