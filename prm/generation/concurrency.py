"""How many requests at a time one server is given, found from its replies alone."""

from __future__ import annotations

import math
from typing import Literal

# Concurrency: where it begins, what a step up must gain (as a share of the growth), what a step
# down may lose (as a share of the shrinkage), and windows between two such trials.
_FIRST_LIMIT, _WORTH, _FREE = 8, 0.2, 0.1
_SOON, _LATER = 2, 20
# The share of the level that counts as full load, and blocked steps until a limit is tried again.
_FULL, _PATIENCE = 0.9, 2


class ConcurrencyFinder:
    """How many requests an endpoint gets at a time.

    Goodput (tokens/s; replies/s where no tokens are counted) is requests in flight times tokens
    per request-second, over requests that began and ended at full load. Unlike a count of tokens
    a second it hardly depends on the lengths that happened to be drawn, and it shows a new level
    at once. The level doubles while that pays, then settles; now and then a step up is kept if it
    pays and a step down if it costs nothing. A 429 halves it and marks where the limit lies.
    """

    def __init__(self, concurrency: int, most: int, now: float) -> None:
        """``concurrency`` is fixed where it is not 0; ``most`` bounds it where it is."""
        self._is_fixed = concurrency > 0
        self._most = concurrency or most
        self.limit = concurrency or min(_FIRST_LIMIT, self._most)
        self._phase: Literal["growing", "settled", "trial", "returning"]
        self._phase = "settled" if self._is_fixed else "growing"
        self._home = self.limit
        self._ceiling = self._most + 1
        self._num_blocked = self._num_rejected = 0
        self._tried: dict[int, float] = {}
        self._goodput: float | None = None
        self._direction = 1 if self._is_fixed else -1
        self._windows_left = _SOON
        self._cut_at = -math.inf
        self._begin(now)

    def finished(
        self, started: float, now: float, in_flight: int, num_tokens: int, seconds: float
    ) -> None:
        """Take note of a reply; ``in_flight`` still counts it."""
        if in_flight < _FULL * self.limit:
            self._begin(now)
        elif started >= self._since:
            self._num_done += 1
            self._num_in_flight += in_flight
            self._num_tokens += num_tokens
            self._seconds += seconds
            if self._num_done >= self._window():
                self._close(now)

    def cut(self, started: float, now: float, in_flight: int, *, is_limit: bool) -> None:
        """Halve the level, once for all that was under way; ``is_limit``: it is known too high."""
        if started < self._cut_at:
            return
        self._cut_at = now
        # A 429 with much less in flight than the level speaks of another limit, one a minute.
        if is_limit and in_flight >= _FULL * self.limit:
            self._ceiling, self._num_blocked = max(2, self.limit), 0
            if self.limit <= self._home:
                self._home = max(1, self.limit // 2)
            self._direction, self._windows_left = 1, _SOON
        self._phase = "returning"
        self._move(max(1, min(self._home, self.limit // 2)), now)

    def _window(self) -> int:
        """Replies to a judgement: few where the way is known, many where differences are small."""
        if self._phase == "returning":
            return max(self.limit // 2, 4)
        return max(2 * self.limit, 16 if self._phase == "growing" else 64)

    def _begin(self, now: float) -> None:
        """A new window."""
        self._since = now
        self._num_done = self._num_in_flight = self._num_tokens = 0
        self._seconds = 0.0

    def _move(self, level: int, now: float) -> None:
        self.limit = level
        self._begin(now)

    def _close(self, now: float) -> None:
        """Judge a window, and choose the next one's level."""
        work = self._num_tokens or self._num_done
        goodput = self._num_in_flight / self._num_done * work / max(self._seconds, 1e-9)
        if self._phase == "growing":
            level = self._grow(goodput)
        elif self._phase == "returning":
            level = min(2 * self.limit, self._home)
        elif self._phase == "trial":
            level = self._judge(goodput)
        else:
            level = self._stay(goodput)
        if self._phase == "returning" and level == self._home:
            self._phase, self._goodput = "settled", None
        self._move(level, now)

    def _grow(self, goodput: float) -> int:
        self._tried[self.limit] = goodput
        if self.limit == self._home or goodput >= self._worthwhile(self._tried[self._home]):
            self._home = self.limit
            level = min(2 * self.limit, self._most)
            if level > self.limit:
                return level
        enough = 0.95 * max(self._tried.values())
        self._home = min(level for level, value in self._tried.items() if value >= enough)
        self._phase, self._goodput = "settled", self._tried[self._home]
        return self._home

    def _worthwhile(self, known: float) -> float:
        return known * (1 + _WORTH * (self.limit / self._home - 1))

    def _stay(self, goodput: float) -> int:
        known = goodput if self._goodput is None else self._goodput
        self._goodput = 0.7 * known + 0.3 * goodput
        self._windows_left -= 1
        if self._windows_left > 0:
            return self._home
        level = self._step()
        if level == self._home:
            self._turn()
        else:
            self._phase = "trial"
        return level

    def _step(self) -> int:
        """The level to try next: up, but not near a known limit, or down."""
        if self._direction < 0:
            return max(1, min(self._home - 1, round(0.8 * self._home)))
        level = min(self._most, max(self._home + 1, round(1.25 * self._home)))
        if level >= self._ceiling - 1:
            level = (self._home + self._ceiling) // 2
            self._num_blocked += level == self._home
            # A limit may have been lifted since.
            if self._num_blocked >= _PATIENCE:
                self._ceiling, self._num_blocked = self._most + 1, 0
        return max(self._home, min(level, self._most))

    def _judge(self, goodput: float) -> int:
        assert self._goodput is not None
        least = self._goodput * (1 - _FREE * (1 - self.limit / self._home))
        if self._direction > 0:
            least = 0.0 if self._is_fixed else self._worthwhile(self._goodput)
        self._phase = "settled"
        if goodput >= least:
            self._home, self._goodput = self.limit, goodput
            self._windows_left, self._num_rejected = _SOON, 0
        else:
            self._turn()
        return self._home

    def _turn(self) -> None:
        """Try the other way: soon, or later where neither way was worth it."""
        self._direction = 1 if self._is_fixed else -self._direction
        self._num_rejected += 1
        self._windows_left = _SOON if self._num_rejected == 1 else _LATER
