"""What work cost: tokens by kind, seconds and dollars. Adds up over requests and batches."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """Tokens read by a model, tokens written by it, and the seconds and dollars that it took.

    ``cached_tokens`` are those of the read ones that a server had in its cache. ``seconds`` of
    requests that ran side by side are added up. ``dollars`` are 0 where no price is known.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    cached_tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Ledger) -> Ledger:
        """Both together."""
        return Ledger(
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.seconds + other.seconds,
            self.cached_tokens + other.cached_tokens,
            self.dollars + other.dollars,
        )

    def __sub__(self, earlier: Ledger) -> Ledger:
        """What was spent since an earlier state of the same ledger."""
        return Ledger(
            self.prompt_tokens - earlier.prompt_tokens,
            self.generated_tokens - earlier.generated_tokens,
            self.seconds - earlier.seconds,
            self.cached_tokens - earlier.cached_tokens,
            self.dollars - earlier.dollars,
        )

    @property
    def tokens(self) -> int:
        """All tokens, read and written."""
        return self.prompt_tokens + self.generated_tokens


@runtime_checkable
class Metered(Protocol):
    """Something that counts what it has spent so far."""

    ledger: Ledger
