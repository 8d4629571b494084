"""Settings of the servers that answer. Loads no HTTP library: every job's settings have these."""

from __future__ import annotations

import dataclasses
from typing import Any

from prm.config import operational
from prm.generation.budget import BudgetConfig
from prm.generation.endpoints import EndpointConfig
from prm.generation.loop_guard import LoopGuardConfig
from prm.prices import Price


@dataclasses.dataclass(frozen=True)
class ServersConfig:
    """Servers of one model, with what may be spent on them and how patient we are."""

    endpoints: tuple[EndpointConfig, ...] = operational(())
    """Where to ask: each has a url, such as http://node7:8000/v1, and settings of its own: weight,
    api_key_env, api_key_file, concurrency, max_concurrency, requests_per_minute,
    tokens_per_minute, price. A list on the command line takes the place of that in the file."""
    name: str = ""
    """What the solutions record as their endpoint: the service, not the machine."""
    revision: str = ""
    """Of the model or the server; a new one asks everything anew."""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """More fields of the request, such as {top_k: 40, min_p: 0.0}; the server must know them."""
    send_seed: bool = False
    """Send a seed for each sample. Some servers crash on seeds, and few honour them."""
    loop_guard: LoopGuardConfig = dataclasses.field(default_factory=LoopGuardConfig)
    """Streams every text and stops one that repeats itself; each sample is then a request."""
    requests: str = operational("")
    """Folder of the answers that were paid for; by default the output's name and "-requests"."""
    price: str = operational("own-server")
    """Row of the price table; an endpoint can name another one."""
    prices: dict[str, Price] = operational(dict)
    """Rows of your own for the price table: {name: {prompt: $, generated: $}} a million tokens."""
    budget: BudgetConfig = operational(BudgetConfig)
    """What may be spent; 0 = no limit. It stops before the limit is passed."""
    timeout: float = operational(600.0)
    """Seconds without a byte until a request counts as hung. Not streamed: for the whole text."""
    tries: int = operational(6)
    """Failures of one request until it is set aside; an unreachable server is not its failure."""
    patience: float = operational(1800.0)
    """Seconds without any reply until the job gives up; a server may be starting."""
