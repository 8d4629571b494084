"""What the guest sends, read with distrust: it may have been taken over by the program."""

from __future__ import annotations

from typing import Literal

from prm.verifiers.sandbox.process import Raw, Stopped
from prm.verifiers.sandbox.protocol import Limits
from prm.verifiers.sandbox.vm.guest import FRAME

Ended = Literal["itself", "killed", "broken"]
"""The run ended itself; we ended it; or the machine went away or sent what is no frame."""
_MOST = 1 << 20
"""No frame is longer."""


class Conversation:
    """The frames of one run, added up."""

    def __init__(self, limits: Limits | None = None) -> None:
        """With ``limits``, what exceeds them ends the conversation."""
        self.limits = limits or Limits()
        self.buffer = bytearray()
        self.acknowledged = 0
        self.ready = ""
        self.is_broken = False
        self._records: list[bytes] = []
        self._stdout: list[bytes] = []
        self._stderr = b""
        self._size = 0
        self._exit: tuple[int, Stopped] | None = None

    @property
    def goes_on(self) -> bool:
        """Nothing has ended it yet."""
        return not self.is_broken and self._exit is None and not self._is_too_much

    @property
    def has_begun(self) -> bool:
        """The driver has said hello."""
        return bool(self._records)

    @property
    def _is_too_much(self) -> bool:
        return self._size > self.limits.output_bytes

    def add(self, data: bytes) -> None:
        """Read the frames that are complete now."""
        self.buffer += data
        while self.goes_on and len(self.buffer) >= FRAME.size:
            kind, size = FRAME.unpack_from(self.buffer)
            if size > _MOST:
                self.is_broken = True
                return
            if len(self.buffer) < FRAME.size + size:
                return
            body = bytes(self.buffer[FRAME.size : FRAME.size + size])
            del self.buffer[: FRAME.size + size]
            self._take(kind, body)

    def result(self, seconds: float, *, is_late: bool) -> tuple[Raw, Ended]:
        """What the run left, and who ended it."""
        code, stopped = self._exit or (137, "")
        ended: Ended = "itself" if self._exit and not stopped else "killed"
        if self._is_too_much:
            stopped = "output_limit"
        elif self._exit is None and is_late:
            stopped = "timeout"
        elif self._exit is None:
            ended = "broken"
        return self._raw(code, stopped, seconds), ended

    def _raw(self, code: int, stopped: Stopped, seconds: float) -> Raw:
        return Raw(
            records=b"".join(self._records),
            stdout=b"".join(self._stdout),
            stderr=self._stderr[-self.limits.error_bytes :],
            exit_code=code,
            stopped=stopped,
            seconds=seconds,
        )

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind in (b"r", b"o"):
            (self._records if kind == b"r" else self._stdout).append(body)
            self._size += len(body)
        elif kind == b"e":
            self._stderr = body
        elif kind == b"a":
            self.acknowledged += 1
        elif kind == b"t":
            self.ready = body.decode("utf-8", "replace")
        elif kind == b"x":
            self._take_exit(body)
        else:
            self.is_broken = True

    def _take_exit(self, body: bytes) -> None:
        code, _, stopped = body.partition(b" ")
        # Three digits at most: the status of a process, or the number of a signal and 128.
        if not (code.isdigit() and len(code) <= 3 and stopped in (b"", b"output_limit")):
            self.is_broken = True
            return
        self._exit = int(code), "output_limit" if stopped else ""
