"""One endpoint: its settings, and its health as its replies and faults tell it."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from prm.errors import ConfigError
from prm.generation.concurrency import ConcurrencyFinder
from prm.generation.faults import Fault
from prm.generation.token_bucket import TokenBucket

if TYPE_CHECKING:
    from prm.generation.endpoints import Lease

Status = Literal["awake", "half_open", "resting", "out"]

# Rests: seconds, doubled with each rest that no success has ended.
_FIRST_REST, _LONGEST_REST = 1.0, 60.0
# Faults in excess of a quarter of the successes that rest an endpoint which has been answering:
# a stray 500 among hundreds of replies says nothing about the server.
_TROUBLE, _TRUST = 3.0, 0.25
_TIMEOUTS_IN_A_ROW = 3

# Names with letters of any alphabet, numbers, and _, which container networks allow.
_HOST = r"(?=.{1,253}$)[\w-]{1,63}(\.[\w-]{1,63})*\.?"


@dataclasses.dataclass(frozen=True)
class EndpointConfig:
    """One OpenAI-compatible endpoint and what it may be asked."""

    url: str = dataclasses.field(repr=False)
    """Base url, as "http://node7:8000/v1"."""
    weight: float = 1.0
    """Share of the work relative to the others, as long as not all of them are full."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key."""
    api_key_file: str = ""
    """File that holds the key. With neither, no key is sent."""
    concurrency: int = 0
    """Requests in flight; 0 = found by itself."""
    max_concurrency: int = 512
    """Requests in flight at most where the number is found by itself."""
    requests_per_minute: int = 0
    """0 = no limit."""
    tokens_per_minute: int = 0
    """0 = no limit."""
    price: str = ""
    """Row of the price table; empty = servers.price."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; the url is not repeated, it may hold a secret."""
        self._check_url()
        if self.api_key_env and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ConfigError(
                f"{self.name}: api_key_env should be the name of an environment variable, such as "
                "QWQ_KEY; what stands there is not one (and not shown: it may be the key itself)"
            )
        if not (0 < self.weight < math.inf):
            raise ConfigError(f"{self.name}: weight {self.weight}: should be above 0")
        if self.api_key_env and self.api_key_file:
            raise ConfigError(f"{self.name}: give api_key_env or api_key_file, not both")
        for field in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            if getattr(self, field) < 0:
                raise ConfigError(f"{self.name}: {field} {getattr(self, field)}: should be >= 0")
        if self.max_concurrency < 1:
            raise ConfigError(f"{self.name}: max_concurrency should be >= 1")

    def _check_url(self) -> None:
        if not _has_address(self.url):
            raise ConfigError(
                "an endpoint's url should look like http://node7:8000/v1: a scheme, the name or "
                "address of a host, a port up to 65535"
            )
        # The settings lie beside the output, where everyone may read them.
        if "@" in urlsplit(self.url).netloc:
            raise ConfigError(f"{self.name}: a url with a password; give api_key_file instead")
        if "?" in self.url or "#" in self.url:
            raise ConfigError(
                f"{self.name}: a url that goes on after '?' or '#'; leave that out, and give a key "
                "by api_key_env or api_key_file"
            )

    @property
    def name(self) -> str:
        """``host:port`` for logs and records, with the path where it tells servers apart."""
        parts = urlsplit(self.url)
        place = parts.netloc.rpartition("@")[2]
        return place + parts.path.rstrip("/").removesuffix("/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointState:
    """One endpoint for a progress line."""

    name: str
    status: Status
    in_flight: int
    limit: int
    num_done: int
    num_failed: int
    reason: str


class Endpoint:
    """One endpoint's health: awake, resting, half-open or out for good."""

    def __init__(
        self, config: EndpointConfig, index: int, now: float, source: random.Random
    ) -> None:
        """Begins awake."""
        self.config = config
        self.index = index
        self.name = config.name
        self.finder = ConcurrencyFinder(config.concurrency, config.max_concurrency, now)
        self.requests = _bucket(config.requests_per_minute, now)
        self.tokens = _bucket(config.tokens_per_minute, now)
        self.in_flight = self.num_started = self.num_done = self.num_failed = 0
        self.is_out = False
        self.reason = ""
        # Requests of an earlier epoch started before the last rest: their faults are old news.
        self.epoch = 0
        self._source = source
        self._rests_until = -math.inf
        self._is_on_trial = False
        self._trial: Lease | None = None
        self._has_answered = False
        self._num_rests = self._num_timeouts = 0
        self._trouble = 0.0

    @property
    def load(self) -> tuple[float, float]:
        """What the least loaded is chosen by: with one more in flight, then all so far."""
        weight = self.config.weight
        return (self.in_flight + 1) / weight, self.num_started / weight

    def opens_at(self, now: float, num_tokens: int) -> float:
        """When it may take a request; inf where that takes an event, not only time."""
        if self.in_flight >= self.finder.limit or self._trial is not None or self.is_out:
            return math.inf
        moment = max(now, self._rests_until)
        if self.requests is not None:
            moment = max(moment, self.requests.ready_at(now, 1))
        if self.tokens is not None:
            moment = max(moment, self.tokens.ready_at(now, num_tokens))
        return moment

    def status(self, now: float) -> Status:
        """One word for its health."""
        if self.is_out:
            return "out"
        if now < self._rests_until:
            return "resting"
        return "half_open" if self._is_on_trial else "awake"

    def state(self, now: float) -> EndpointState:
        """All that a progress line may show."""
        status = self.status(now)
        return EndpointState(
            self.name,
            status,
            self.in_flight,
            self.finder.limit,
            self.num_done,
            self.num_failed,
            reason="" if status == "awake" else self.reason,
        )

    def enter(self, lease: Lease, now: float) -> None:
        """Count a request in."""
        self.in_flight += 1
        self.num_started += 1
        if self._is_on_trial:
            self._trial = lease
        if self.requests is not None:
            self.requests.take(now, 1)
        if self.tokens is not None:
            self.tokens.take(now, lease.num_tokens)

    def leave(self, lease: Lease) -> None:
        """Count it out."""
        self.in_flight -= 1
        if self._trial is lease:
            self._trial = None

    def awaken(self, now: float) -> bool:
        """End the half-open state, if that is the state: it has answered."""
        if not self._is_on_trial or now < self._rests_until:
            return False
        self._is_on_trial, self._trial = False, None
        return True

    def succeeded(self, lease: Lease, now: float, num_tokens: int, seconds: float) -> None:
        """Take note of a reply."""
        self.num_done += 1
        self._answered(lease, now)
        self.finder.finished(lease.started, now, self.in_flight, num_tokens, seconds)
        self.leave(lease)

    def failed(self, lease: Lease, now: float, fault: Fault) -> None:
        """Take note of a fault: rest, ask for less, go out for good, or none of these."""
        num_in_flight = self.in_flight
        self.leave(lease)
        self.num_failed += 1
        if fault.is_poison:
            self._answered(lease, now)
        elif fault.is_fatal_for_endpoint:
            self.is_out, self.reason = True, str(fault)
        elif lease.epoch != self.epoch:
            if fault.retry_after is not None and now < self._rests_until:
                self._rests_until = max(self._rests_until, now + fault.retry_after)
        elif fault.kind == "rate_limited":
            self.finder.cut(lease.started, now, num_in_flight, is_limit=True)
            self._rest(now, fault)
        else:
            if fault.kind == "timeout":
                self.finder.cut(lease.started, now, num_in_flight, is_limit=False)
            if self._is_too_much(fault):
                self._is_on_trial = True
                self._rest(now, fault)

    def _answered(self, lease: Lease, now: float) -> None:
        self.awaken(now)
        if lease.epoch == self.epoch:
            self._has_answered = True
            self._num_rests = self._num_timeouts = 0
            self._trouble = max(0.0, self._trouble - _TRUST)

    def _is_too_much(self, fault: Fault) -> bool:
        """Whether this fault, after those before it, is the server's rather than bad luck."""
        if fault.kind == "timeout":
            self._num_timeouts += 1
            return self._is_on_trial or self._num_timeouts >= _TIMEOUTS_IN_A_ROW
        self._trouble += 1
        hopeless = not self._has_answered or self._trouble >= _TROUBLE
        return hopeless or fault.retry_after is not None

    def _rest(self, now: float, fault: Fault) -> None:
        pause = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(self._num_rests, 10))
        pause *= self._source.uniform(0.75, 1.0)
        if fault.retry_after is not None:
            pause = max(fault.retry_after, 0.1 * pause)
        self._rests_until = max(self._rests_until, now + pause)
        self._num_rests += 1
        self._num_timeouts, self._trouble, self._has_answered = 0, 0.0, False
        self._trial = None
        self.epoch += 1
        self.reason = str(fault)


def _has_address(url: str) -> bool:
    """Whether it names a scheme, a host and a port that can be."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    # Of an address in brackets the parser has seen to it that it is one.
    can_be = ":" in host or re.fullmatch(_HOST, host)
    no_gaps = not re.search(r"\s", url)
    return bool(parts.scheme in ("http", "https") and can_be and port != 0 and no_gaps)


def _bucket(per_minute: int, now: float) -> TokenBucket | None:
    return TokenBucket(per_minute, now) if per_minute else None
