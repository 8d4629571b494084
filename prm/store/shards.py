"""A part of a job, by hash of the problem id."""

from __future__ import annotations

import dataclasses
import hashlib

from prm.errors import StoreError


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count`` of a job, by hash of the problem id."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"3/8"``: the fourth of eight.

        Raises:
            StoreError: the text is not of that form, or the index is not below the count.
        """
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise StoreError(f"shard {text!r} should be i/n with 0 <= i < n, for example 0/8")
        return cls(int(index), int(count))

    @property
    def stem(self) -> str:
        """The name that this shard's files begin with."""
        return f"shard-{self.index:05d}-of-{self.count:05d}"

    def has(self, problem_id: str) -> bool:
        """Whether the problem belongs to this shard."""
        digest = hashlib.sha256(problem_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index
