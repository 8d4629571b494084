"""A limit of so much a minute."""

from __future__ import annotations

_BURST_SECONDS = 5.0


class TokenBucket:
    """So much a minute, with a burst of a few seconds' worth."""

    def __init__(self, per_minute: int, now: float) -> None:
        """Begins full."""
        self._rate = per_minute / 60
        self._size = max(1.0, self._rate * _BURST_SECONDS)
        self._level = self._size
        self._filled_at = now

    def ready_at(self, now: float, amount: float) -> float:
        """When ``amount`` may be taken; more than a full bucket may be taken from a full one."""
        level = min(self._size, self._level + (now - self._filled_at) * self._rate)
        missing = min(amount, self._size) - level
        return now if missing < 1e-6 * self._size else now + missing / self._rate

    def take(self, now: float, amount: float) -> None:
        """Take it, below zero where it is more than there is."""
        self._level = min(self._size, self._level + (now - self._filled_at) * self._rate) - amount
        self._filled_at = now

    def give_back(self, amount: float) -> None:
        """Return what was not used; negative = it was more than thought."""
        self._level = min(self._size, self._level + amount)
