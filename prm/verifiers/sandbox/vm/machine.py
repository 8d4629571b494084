"""One virtual machine: booted or restored, given one job, thrown away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Sequence
from typing import Any

from prm.errors import SandboxUnavailable
from prm.verifiers.sandbox.process import Raw
from prm.verifiers.sandbox.protocol import Limits
from prm.verifiers.sandbox.vm.command import HOW_TO_FIX, Hardware, qemu_command
from prm.verifiers.sandbox.vm.guest import HEADER, PIECE
from prm.verifiers.sandbox.vm.reading import Conversation, Ended

_START_S = 30.0
"""Seconds in which qemu must answer and a restored machine must run."""
_GRACE_S = 5.0
"""Seconds in which a killed one must be gone."""
_CHUNK = 1 << 16


class Machine:
    """A qemu process, its serial port and its control socket. Use as a context manager.

    Raises:
        SandboxUnavailable: qemu could not be started.
    """

    def __init__(
        self, hardware: Hardware, arguments: Sequence[str], *, keep: Sequence[int] = (), slot: int
    ) -> None:
        """Start qemu with ``arguments``; it inherits the descriptors in ``keep``."""
        self.serial, serial = socket.socketpair()
        self._control, control = socket.socketpair()
        try:
            self.process = subprocess.Popen(
                [*qemu_command(hardware, serial.fileno(), control.fileno(), slot), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(serial.fileno(), control.fileno(), *keep),
                start_new_session=True,
                env={},
                cwd="/",
            )
        except BaseException:
            self.serial.close()
            self._control.close()
            raise
        finally:
            serial.close()
            control.close()
        self._lines = self._control.makefile("rb")
        self._control.settimeout(_START_S)

    def __enter__(self) -> Machine:
        """Return the machine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self.kill()

    def wait_until_running(self) -> None:
        """Return once qemu answers and the machine runs: booting, or restored whole.

        Raises:
            SandboxUnavailable: it ended, or took too long.
        """
        end = time.monotonic() + _START_S
        try:
            self._lines.readline()
            self.command("qmp_capabilities")
            while not self.command("query-status")["running"]:
                if time.monotonic() > end:
                    raise TimeoutError("not running")
                time.sleep(0.003)
        except (OSError, ValueError) as err:
            raise SandboxUnavailable(
                f"the virtual machine did not start: {self._why_not() or err}", HOW_TO_FIX
            ) from err

    def wait_for_driver(self, seconds: float) -> str:
        """The version of the Python that waits in the guest, once it does.

        Raises:
            SandboxUnavailable: the guest did not come that far.
        """
        conversation = Conversation()
        end = time.monotonic() + seconds
        while not conversation.ready:
            if conversation.is_broken or not self._hear(conversation, end):
                raise SandboxUnavailable(
                    f"the guest did not boot: {bytes(conversation.buffer)[-300:]!r}"
                    f" {self._why_not()}",
                    HOW_TO_FIX,
                )
        return conversation.ready

    def save(self, path: str) -> None:
        """Write the running machine into a file, from which it can be restored many times.

        Raises:
            SandboxUnavailable: qemu could not.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self.command("getfd", descriptor, fdname="file")
        finally:
            os.close(descriptor)
        self.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.command("migrate", uri="fd:file")
        while (status := self.command("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                raise SandboxUnavailable("qemu could not save the machine", HOW_TO_FIX)
            time.sleep(0.02)

    def run(self, data: bytes, limits: Limits, *, scratch_mb: int) -> tuple[Raw, Ended]:
        """Give the job to the waiting driver, read what comes, kill the machine.

        The wall clock starts with the driver's hello.
        """
        # The port carries about 70 KB a second into an emulated machine, and ten times that out.
        data = zlib.compress(data)
        head = HEADER.pack(
            len(data), scratch_mb, limits.output_bytes, limits.error_bytes, time.time(),
            os.urandom(32),
        )  # fmt: skip
        conversation = Conversation(limits)
        begin = time.monotonic()
        try:
            if self._tell(head, data, conversation):
                is_late = self._listen(conversation, limits.wall_s)
            else:
                is_late = False
        finally:
            seconds = time.monotonic() - begin
            self.kill()
        return conversation.result(seconds, is_late=is_late)

    def command(self, name: str, *descriptors: int, **arguments: Any) -> dict[str, Any]:
        """Send a QMP command, with descriptors if any, and return its answer.

        Raises:
            OSError: qemu refused, or is gone.
        """
        line = json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"
        socket.send_fds(self._control, [line], list(descriptors))
        while True:
            answer = json.loads(self._lines.readline() or b'{"error": "qemu ended"}')
            if "error" in answer:
                raise OSError(f"qemu: {name}: {answer['error']}")
            if "return" in answer:
                return dict(answer["return"])

    def kill(self) -> None:
        """End it and wait until it is gone; a second call does nothing.

        Raises:
            SandboxUnavailable: something of it lives on.
        """
        if self.serial.fileno() < 0:
            return
        # Not yet waited for, so the number is still its own.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        is_gone = self._is_silent()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._lines.close()
        self._control.close()
        self.serial.close()
        if not is_gone:
            raise SandboxUnavailable("a killed virtual machine did not end", "look for qemu")

    def _is_silent(self) -> bool:
        """Wait until nobody holds the other end of the serial port: not even below the jail."""
        self.serial.settimeout(_GRACE_S)
        try:
            while self.serial.recv(_CHUNK):
                pass
        except ConnectionError:
            return True
        except OSError:
            return False
        return True

    def _tell(self, head: bytes, data: bytes, conversation: Conversation) -> bool:
        """Send the job piece by piece, each once the one before was read; did all arrive?"""
        self.serial.settimeout(_START_S)
        try:
            self.serial.sendall(head)
            for start in range(0, len(data), PIECE):
                end = time.monotonic() + _START_S
                self.serial.sendall(data[start : start + PIECE])
                while conversation.acknowledged * PIECE <= start:
                    if conversation.is_broken or not self._hear(conversation, end):
                        return False
        except OSError:
            return False
        return True

    def _listen(self, conversation: Conversation, wall_s: float) -> bool:
        """Read to the end of the run; True: it was not over when the wall clock was."""
        end = time.monotonic() + _START_S
        has_begun = False
        while conversation.goes_on:
            if conversation.has_begun and not has_begun:
                has_begun, end = True, time.monotonic() + wall_s
            if not self._hear(conversation, end):
                return time.monotonic() >= end
        return False

    def _hear(self, conversation: Conversation, end: float) -> bool:
        """Read what the guest sends, for a while; False: it is too late, or the machine ended."""
        self.serial.settimeout(max(end - time.monotonic(), 0.001))
        try:
            data = self.serial.recv(_CHUNK)
        except OSError:
            return False
        conversation.add(data)
        return bool(data) and time.monotonic() < end

    def _why_not(self) -> str:
        """The last words of a qemu that ended by itself."""
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return ""
        assert self.process.stderr is not None
        return self.process.stderr.read()[-300:].decode("utf-8", "replace").strip()
