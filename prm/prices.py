"""What tokens cost: dollars per million, by kind of token, and a small table of public prices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from prm.errors import ConfigError
from prm.ledger import Ledger

_PER = 1_000_000


@dataclasses.dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    prompt: float = 0.0
    """Tokens that the model reads."""
    generated: float = 0.0
    """Tokens that it writes; hidden thinking is billed as these."""
    cached: float | None = None
    """Tokens that it reads from the server's cache; null = as prompt."""

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(
                    f"price.{field.name} is {value}; expected dollars per million tokens, 0 or more"
                )

    def dollars(self, cost: Ledger) -> float:
        """What the tokens of ``cost`` cost at this price; its own dollars are not looked at."""
        cached = min(cost.cached_tokens, cost.prompt_tokens)
        at_cache = self.prompt if self.cached is None else self.cached
        return (
            (cost.prompt_tokens - cached) * self.prompt
            + cached * at_cache
            + cost.generated_tokens * self.generated
        ) / _PER

    def priced(self, cost: Ledger) -> Ledger:
        """``cost`` with its dollars at this price."""
        return dataclasses.replace(cost, dollars=self.dollars(cost))


PRICES: dict[str, Price] = {
    # Hardware that is paid for anyway.
    "own-server": Price(),
    # Ubicloud's hosted QwQ-32B, one price for all tokens, as this project was planned with it;
    # no date is known, so look at the bill.
    "ubicloud-qwq-32b": Price(prompt=0.60, generated=0.60),
    # https://developers.cloudflare.com/workers-ai/platform/pricing/, from a copy without a date.
    "cloudflare-qwq-32b": Price(prompt=0.66, generated=1.00),
    # OpenAI's price list as of January 2025, quoted at
    # https://community.openai.com/t/how-to-correct-compute-the-cost-of-an-o1-model-api-call/1099176
    "o1": Price(prompt=15.0, generated=60.0, cached=7.5),
    # The same, counting only what the model writes: "$60 a million tokens".
    "o1-generated-only": Price(generated=60.0),
}


def price_of(name: str, own: Mapping[str, Price]) -> Price:
    """The row of that name among one's own rows and the shipped table.

    Raises:
        ConfigError: there is none; the message lists those that exist.
    """
    table = PRICES | dict(own)
    if name not in table:
        raise ConfigError(f"price {name!r} is unknown; there are {', '.join(sorted(table))}")
    return table[name]


def in_dollars(dollars: float) -> str:
    """``$12.30``, ``$0.00123``: three digits at least, cents at least."""
    decimals = 2 - math.floor(math.log10(dollars)) if dollars > 0 else 0
    return f"${dollars:,.{max(2, decimals)}f}" if dollars else "$0"
