"""Verdicts that were reached before: samples of one problem mostly end in the same few answers."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Hashable

from prm.records import Verdict


class VerdictCache:
    """The ``size`` last used verdicts; 0 = none. Threads may share it."""

    def __init__(self, size: int) -> None:
        """``hits`` and ``misses`` are counted from here on."""
        self.size = size
        self.hits = 0
        self.misses = 0
        self._verdicts: collections.OrderedDict[Hashable, Verdict] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Verdict | None:
        """The verdict, which took no time now, or None."""
        with self._lock:
            found = self._verdicts.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._verdicts.move_to_end(key)
        return dataclasses.replace(found, seconds=0.0)

    def put(self, key: Hashable, verdict: Verdict) -> None:
        """Keep a verdict; our own failure is none to keep."""
        if verdict.reason == "error":
            return
        with self._lock:
            self._verdicts[key] = verdict
            while len(self._verdicts) > self.size:
                self._verdicts.popitem(last=False)

    @property
    def hit_rate(self) -> float:
        """Hits among all that was asked for; 0 when nothing was."""
        return self.hits / max(1, self.hits + self.misses)
