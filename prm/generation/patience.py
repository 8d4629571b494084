"""For how long nothing may come from any server while something is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from prm.errors import GenerationError

# Looks at a silence that is not to be ended yet: ten in the time that it may last.
_LOOKS = 10
_SHORTEST_LOOK = 0.05


class Patience:
    """Tells how long the servers have been silent, and gives up in time.

    Silence begins with the last sign of life, or when something is asked again after nothing was.
    As a context manager it says that something is asked.
    """

    def __init__(
        self,
        seconds: float,
        *,
        is_vain: Callable[[], bool],
        give_up: Callable[[Exception], None],
    ) -> None:
        """``is_vain``: nothing is under way and no server may be asked; else a fault will tell."""
        self._seconds = seconds
        self._is_vain, self._give_up = is_vain, give_up
        self._num_asking = 0
        self._heard_at = time.monotonic()
        self._last_fault = "none"
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        """Something is asked."""
        self._num_asking += 1
        if self._num_asking == 1:
            self.heard()
            self._look_in(self._seconds)

    def __exit__(self, *_: object) -> None:
        """It is answered, or given up."""
        self._num_asking -= 1
        if self._num_asking == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def heard(self) -> None:
        """A server has shown a sign of life."""
        self._heard_at = time.monotonic()

    def check(self, fault: str) -> None:
        """Take note of a fault.

        Raises:
            GenerationError: the silence has lasted for too long.
        """
        self._last_fault = fault
        if self._silence() > self._seconds:
            raise self._error()

    def _silence(self) -> float:
        return time.monotonic() - self._heard_at

    def _look(self) -> None:
        left = self._seconds - self._silence()
        if left <= 0 and self._is_vain():
            self._give_up(self._error())
            return
        self._look_in(left if left > 0 else self._seconds / _LOOKS)

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(seconds, _SHORTEST_LOOK), self._look)

    def _error(self) -> GenerationError:
        return GenerationError(
            f"no endpoint has answered for {self._silence():.0f} s (servers.patience); the last "
            f"fault: {self._last_fault}. "
            "What was answered is kept: start again when the servers are up"
        )
