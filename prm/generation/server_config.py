"""Settings of the servers that answer. Loads no HTTP library: every job's settings have these."""

from __future__ import annotations

import dataclasses
from typing import Any

from prm.config import operational
from prm.errors import ConfigError, RecordError
from prm.generation.budget import BudgetConfig
from prm.generation.endpoints import EndpointConfig
from prm.generation.loop_guard import LoopGuardConfig
from prm.prices import Price
from prm.records import build

_FORM = 'endpoints should be a list such as ["http://node7:8000/v1"] or [{url: ..., weight: 2}]'
# Fields of a request that are set by other settings: given here too, they would contradict the
# records, the budget or what is read of the reply.
_OTHER_SETTINGS = {
    "model": "the name of the model (generator.model, completer.model)",
    "messages": "a strategy's prompt",
    "prompt": "a strategy's prompt",
    "n": "sampling.n",
    "best_of": "sampling.n",
    "max_tokens": "sampling.max_tokens",
    "max_completion_tokens": "sampling.max_tokens",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "stop": "sampling.stop",
    "seed": "servers.send_seed",
    "stream": "servers.loop_guard.enabled",
    "stream_options": "servers.loop_guard.enabled",
    "logprobs": "sampling.top_logprobs",
    "top_logprobs": "sampling.top_logprobs",
    "echo": "nothing: a text has no prompt in it",
}


@dataclasses.dataclass(frozen=True)
class ServersConfig:
    """Servers of one model, with what may be spent on them and how patient we are."""

    # A tuple of EndpointConfig, read by __post_init__: the parser of settings takes no url for one,
    # and its words on a wrong value are long and may repeat a key.
    endpoints: Any = operational(())
    """Where to ask: each is a url, such as http://node7:8000/v1, or an object with url and settings
    of its own: weight, api_key_env, api_key_file, concurrency, max_concurrency,
    requests_per_minute, tokens_per_minute, price. A list on the command line takes the place of
    that in the file."""
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

    def __post_init__(self) -> None:
        """Read the endpoints, and refuse fields of a request that have settings of their own."""
        object.__setattr__(self, "endpoints", _endpoints(self.endpoints))
        for name in self.extra:
            if name in _OTHER_SETTINGS:
                raise ConfigError(f"servers.extra: not {name}; use {_OTHER_SETTINGS[name]}")


def _endpoints(given: Any) -> tuple[EndpointConfig, ...]:
    """The endpoints, from urls, objects, or what was read before."""
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{_FORM}, found {type(given).__name__}")
    return tuple(_endpoint(one, f"endpoints[{index}]") for index, one in enumerate(given))


def _endpoint(given: Any, place: str) -> EndpointConfig:
    if isinstance(given, EndpointConfig):
        return given
    if not isinstance(given, str | dict):
        raise ConfigError(f"{_FORM}; {place} is {type(given).__name__}")
    try:
        one: EndpointConfig = build(
            EndpointConfig, {"url": given} if isinstance(given, str) else given, place
        )
    except RecordError as error:
        raise ConfigError(f"{error}; {_FORM}") from None
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    return one
