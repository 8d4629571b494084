"""The first process inside the virtual machine (``/init``), and what it says over the serial port.

It starts the driver as an unprivileged user before there is a job. The driver waits in its first
read, and so the snapshot of the machine is taken: a job finds a Python that has started already.

    guest -> host   frames: kind (1 byte), length (4 bytes), data
                    r record bytes   o stdout   e the end of stderr   a send on   x how it ended
                    t (at build time) the driver waits: data is the version of Python
    host -> guest   `HEADER`, then the packed job in pieces of `PIECE` bytes, an ``a`` after each

Nothing here is a secret or a judge: whoever takes over the whole guest can forge frames, and gains
what the program had anyway, since no expected value is inside. Standard library of the guest only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import selectors
import signal
import stat
import struct
import sys
import termios
import time
import tty
import zlib

FRAME = struct.Struct("!cI")
HEADER = struct.Struct("!QIIId32s")
"""Bytes of the packed job, MiB of /tmp, output_bytes, error_bytes, time of day, fresh entropy."""
PIECE = 1 << 15
"""Far below what the kernel's terminal buffers before it drops bytes."""
STDERR_FACTOR = 16
"""As on the host: only the end of stderr is kept, a flood of it ends the run."""

_UID = 1000
_ENVIRONMENT = {"PATH": "/usr/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
_READ_ONLY, _NO_SUID, _NO_DEV, _REMOUNT = 1, 2, 4, 32
_SET_SECCOMP, _SET_NO_NEW_PRIVS, _DROP_BOUNDING, _CAPABILITIES = 22, 38, 24, 64
_ADD_ENTROPY, _RESEED = 0x40085203, 0x5207
_CHUNK = 1 << 14
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Set the machine up, start the driver, wait for the one job, run it, tell how it ended."""
    _make_file_system()
    serial = os.open("/dev/ttyS0", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(serial)
    # What goes wrong before the driver waits is told in plain text.
    os.dup2(serial, 2)
    source, instructions = _take("/bootstrap"), _take("/filter")
    os.unlink("/init")
    os.rmdir("/root")
    _occupy_a_process()
    driver = _Driver(source.decode(), instructions)
    _mount("none", "/", "", _REMOUNT | _READ_ONLY)
    driver.wait_until_it_reads()
    termios.tcflush(serial, termios.TCIOFLUSH)
    _send(serial, b"t", sys.version.encode())
    size, scratch_mb, output_bytes, error_bytes, now, entropy = HEADER.unpack(
        _receive(serial, HEADER.size)
    )
    _wake_up(now, entropy)
    _mount("none", "/tmp", f"size={scratch_mb}m", _REMOUNT | _NO_SUID | _NO_DEV)
    job = b""
    while len(job) < size:
        job += _receive(serial, min(PIECE, size - len(job)))
        _send(serial, b"a", b"")
    driver.give(zlib.decompress(job))
    _send(serial, b"x", _relay(serial, driver, output_bytes, error_bytes))
    while True:
        signal.pause()


def _make_file_system() -> None:
    """Make /proc, /tmp and the few devices that a program may need; no disk, no network."""
    _mount("proc", "/proc", "hidepid=2", _READ_ONLY)
    _mount("tmpfs", "/tmp", "mode=1777", _NO_SUID | _NO_DEV)
    devices = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
    for name, (major, minor) in devices.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(f"/dev/{name}", 0o666)
    os.mknod("/dev/ttyS0", stat.S_IFCHR | 0o600, os.makedev(4, 64))


def _take(path: str) -> bytes:
    """The content of a file that nobody shall see after us."""
    with open(path, "rb") as file:
        data = file.read()
    os.unlink(path)
    return data


def _mount(what: str, where: str, options: str, flags: int) -> None:
    kind = None if flags & _REMOUNT else what.encode()
    if _LIBC.mount(what.encode(), where.encode(), kind, flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {where}")


def _wake_up(now: float, entropy: bytes) -> None:
    """Undo that all machines come from one snapshot: its clock and its random numbers."""
    time.clock_settime(time.CLOCK_REALTIME, now)
    with open("/dev/urandom", "wb") as device:
        size = len(entropy)
        fcntl.ioctl(device, _ADD_ENTROPY, struct.pack("ii", 8 * size, size) + entropy)
        fcntl.ioctl(device, _RESEED)


class _Driver:
    """The process that will run the program, and our ends of its pipes."""

    def __init__(self, source: str, instructions: bytes) -> None:
        job, self.job = os.pipe()
        self.pipes: dict[int, bytes] = {}
        inner = []
        for kind in (b"o", b"e", b"r"):
            ours, theirs = os.pipe()
            self.pipes[ours] = kind
            inner.append(theirs)
        self.pid = os.fork()
        if self.pid == 0:
            for number, descriptor in enumerate((job, inner[0], inner[1])):
                os.dup2(descriptor, number)
            _become_driver(source, inner[2], instructions)
        for descriptor in (job, *inner):
            os.close(descriptor)

    def wait_until_it_reads(self) -> None:
        """Return once the driver waits in read(0, ...), its limits not yet set."""
        while True:
            with open(f"/proc/{self.pid}/syscall", encoding="ascii") as file:
                if file.read().startswith("0 0x0 "):
                    return
            time.sleep(0.02)

    def give(self, job: bytes) -> None:
        with open(self.job, "wb") as pipe:
            pipe.write(job)


def _become_driver(source: str, records: int, instructions: bytes) -> None:
    """Give up everything that root may do, then become the driver."""
    os.setsid()
    os.set_inheritable(records, True)
    os.chdir("/tmp")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for capability in range(_CAPABILITIES):
        _LIBC.prctl(_DROP_BOUNDING, capability, 0, 0, 0)
    _give_up_root()
    _filter_system_calls(instructions)
    flags = ["-I", "-S", "-B", "-X", "utf8"]
    command = [sys.executable, *flags, "-c", source, str(records)]
    os.execve(sys.executable, command, _ENVIRONMENT)


def _occupy_a_process() -> None:
    """Start one that only waits: the driver's limit of processes counts a first one."""
    if os.fork() == 0:
        os.closerange(0, 64)
        _give_up_root()
        while True:
            signal.pause()


def _give_up_root() -> None:
    os.setgroups([])
    os.setresgid(_UID, _UID, _UID)
    os.setresuid(_UID, _UID, _UID)


def _filter_system_calls(instructions: bytes) -> None:
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("HxxxxxxP", len(instructions) // 8, ctypes.addressof(buffer))
    if _LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _LIBC.prctl(_SET_SECCOMP, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _relay(serial: int, driver: _Driver, output_bytes: int, error_bytes: int) -> bytes:
    """Send on what the program writes until it ends; exit status and why it was stopped."""
    ended = os.pidfd_open(driver.pid)
    kept, errors, tail, stopped = 0, 0, b"", ""
    with selectors.DefaultSelector() as selector:
        for descriptor in (*driver.pipes, ended):
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                if key.fd == ended:
                    # With the driver all ends, also what it started and left behind.
                    os.kill(-1, signal.SIGKILL)
                data = b"" if key.fd == ended else os.read(key.fd, _CHUNK)
                kind = driver.pipes.get(key.fd, b"")
                if not data:
                    selector.unregister(key.fd)
                elif kind == b"e":
                    errors, tail = errors + len(data), (tail + data)[-error_bytes:]
                elif not stopped:
                    kept += len(data)
                    _send(serial, kind, data)
                if kept > output_bytes or errors > STDERR_FACTOR * output_bytes:
                    stopped = "output_limit"
                    os.kill(-1, signal.SIGKILL)
    _send(serial, b"e", tail)
    code = os.waitstatus_to_exitcode(os.waitpid(driver.pid, 0)[1])
    return f"{code if code >= 0 else 128 - code} {stopped}".encode()


def _send(serial: int, kind: bytes, data: bytes) -> None:
    data = FRAME.pack(kind, len(data)) + data
    while data:
        data = data[os.write(serial, data) :]


def _receive(serial: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(serial, size - len(data))
    return data


if __name__ == "__main__":
    main()
