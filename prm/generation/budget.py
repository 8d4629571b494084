"""A limit in dollars or tokens that is never passed.

Before a request is sent, the most that it can cost is reserved; when its reply is there, the true
cost takes the reservation's place. Spent + reserved stays within the limit at every moment, so
near the end fewer requests run side by side, and they go on as others are settled.
"""

from __future__ import annotations

import dataclasses
import math

from prm.errors import ConfigError, GenerationError
from prm.ledger import Ledger
from prm.prices import Price
from prm.protocols import Chat, Prompt, SamplingParams

# A token is at least one byte of text; these are for what a chat template adds.
_TOKENS_PER_MESSAGE = 16
_TOKENS_PER_PROMPT = 64

# Money is counted in whole picodollars: a sum of floats drifts, and a limit must not.
_PICO = 10**12


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """What a job may spend over all its starts and all its shards: each has an equal part."""

    dollars: float = 0.0
    """0 = no limit."""
    tokens: int = 0
    """Read and written together; 0 = no limit."""

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        if not (math.isfinite(self.dollars) and self.dollars >= 0):
            raise ConfigError(f"budget.dollars is {self.dollars}, should be 0 (no limit) or more")
        if self.tokens < 0:
            raise ConfigError(f"budget.tokens is {self.tokens}, should be 0 (no limit) or more")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """The most that a request can cost; `Budget.settle` or `Budget.release` gives it back."""

    tokens: int
    picodollars: int


class Budget:
    """The limit of one shard. For one thread: all calls come from the event loop.

    What a request cost is kept by who sent it. A process that is killed at once (kill -9, no power)
    keeps no account of what was in flight, or answered and not on the disk yet: that much, and no
    more, the next start does not know of.
    """

    def __init__(
        self, config: BudgetConfig, price: Price, spent: Ledger, num_shards: int = 1
    ) -> None:
        """``price``: the dearest of the endpoints. ``spent``: by earlier starts, this shard's part.

        Raises:
            ConfigError: a limit in dollars without a price (it would limit nothing), or a part
                of a shard that is less than one token or picodollar.
        """
        if config.dollars and not (price.prompt or price.generated or price.cached):
            raise ConfigError(
                f"budget.dollars is {config.dollars}, but every price is 0: set the price, or "
                "limit budget.tokens"
            )
        self._config, self._num_shards = config, num_shards
        dearest = max(price.prompt, price.cached or 0.0)
        self._worst_price = dataclasses.replace(price, prompt=dearest, cached=None)
        self._max_picodollars = _pico(config.dollars) // num_shards
        self._max_tokens = config.tokens // num_shards
        if (config.dollars and not self._max_picodollars) or (
            config.tokens and not self._max_tokens
        ):
            raise ConfigError(f"{config} is nothing for each of {num_shards} shards: raise it")
        self._spent, self._spent_picodollars = spent, _pico(spent.dollars)
        self._in_flight: set[Reservation] = set()
        self._reserved_tokens = self._reserved_picodollars = 0

    @property
    def spent(self) -> Ledger:
        """What was spent, by earlier starts too."""
        return dataclasses.replace(self._spent, dollars=self._spent_picodollars / _PICO)

    @property
    def reserved(self) -> tuple[int, float]:
        """The most that the requests in flight can still cost: tokens and dollars."""
        return self._reserved_tokens, self._reserved_picodollars / _PICO

    def try_reserve(self, prompt: Prompt, params: SamplingParams, n: int) -> Reservation | None:
        """Room for ``n`` samples of a prompt in one request; None when they might not fit now."""
        worst = self._worst(prompt, params, n)
        if not self._fits(worst):
            return None
        self._in_flight.add(worst)
        self._reserved_tokens += worst.tokens
        self._reserved_picodollars += worst.picodollars
        return worst

    def settle(self, reservation: Reservation, cost: Ledger) -> None:
        """Put what the request did cost in the place of what it might have.

        A server that bills more than it was asked for is believed: the money is gone.

        Raises:
            GenerationError: the reservation was settled or released before.
        """
        self.release(reservation)
        self._spent = self._spent + cost
        self._spent_picodollars += _pico(cost.dollars)

    def release(self, reservation: Reservation) -> None:
        """Give a reservation back: the request cost nothing.

        Raises:
            GenerationError: the reservation was settled or released before.
        """
        if reservation not in self._in_flight:
            raise GenerationError(f"{reservation} is not open: it was settled or released before")
        self._in_flight.remove(reservation)
        self._reserved_tokens -= reservation.tokens
        self._reserved_picodollars -= reservation.picodollars

    def is_exhausted(self, prompt: Prompt, params: SamplingParams, n: int) -> bool:
        """Whether this request can never be sent: it does not fit, and nothing is in flight."""
        return not self._in_flight and not self._fits(self._worst(prompt, params, n))

    def describe(self) -> str:
        """``$1.98 of $2.00 spent, $0.01 reserved; 512,000 tokens spent, 9,000 reserved``."""
        tokens, dollars = self.reserved
        parts = []
        if self._max_picodollars or self._spent_picodollars:
            limit = f" of ${self._max_picodollars / _PICO:,.2f}" if self._max_picodollars else ""
            # Rounded down, so that it never reads as more than the limit.
            spent = math.floor(self._spent_picodollars / _PICO * 100) / 100
            parts.append(f"${spent:,.2f}{limit} spent, ${dollars:,.2f} reserved")
        limit = f" of {self._max_tokens:,}" if self._max_tokens else ""
        parts.append(f"{self._spent.tokens:,}{limit} tokens spent, {tokens:,} reserved")
        if self._num_shards > 1 and (self._max_tokens or self._max_picodollars):
            parts.append(f"this shard has 1/{self._num_shards} of the budget")
        return "; ".join(parts)

    def _worst(self, prompt: Prompt, params: SamplingParams, n: int) -> Reservation:
        """The prompt is billed once, each sample up to its limit."""
        read, written = max_prompt_tokens(prompt), n * params.max_tokens
        dollars = self._worst_price.dollars(Ledger(read, written))
        return Reservation(read + written, _pico(dollars))

    def _fits(self, worst: Reservation) -> bool:
        tokens = self._spent.tokens + self._reserved_tokens + worst.tokens
        money = self._spent_picodollars + self._reserved_picodollars + worst.picodollars
        return (not self._max_tokens or tokens <= self._max_tokens) and (
            not self._max_picodollars or money <= self._max_picodollars
        )


def max_prompt_tokens(prompt: Prompt) -> int:
    """More tokens than any tokenizer makes of the prompt: a token is at least one byte."""
    if not isinstance(prompt, Chat):
        return _num_bytes(prompt) + _TOKENS_PER_PROMPT
    texts = [text for message in prompt.messages for text in (message.role, message.content)]
    extra = _TOKENS_PER_MESSAGE * len(prompt.messages) + _TOKENS_PER_PROMPT
    return sum(map(_num_bytes, texts)) + _num_bytes(prompt.prefix) + extra


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _pico(dollars: float) -> int:
    return round(dollars * _PICO)
