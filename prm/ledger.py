"""What work cost: tokens by kind and seconds. Adds up over requests, batches and shards."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """Tokens read by a model, tokens written by it, and the seconds that it took."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Ledger) -> Ledger:
        """Both together."""
        return Ledger(
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.seconds + other.seconds,
        )

    @property
    def tokens(self) -> int:
        """All tokens, read and written."""
        return self.prompt_tokens + self.generated_tokens
