"""One try of a request: room in the budget, an endpoint, the request itself, and its cost."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Sequence

from prm.generation.budget import Budget, max_prompt_tokens
from prm.generation.calls import Call, Watch
from prm.generation.client import Client
from prm.generation.endpoints import EndpointPool, Lease
from prm.generation.faults import Fault
from prm.generation.patience import Patience
from prm.generation.peers import Peer, with_probe
from prm.generation.purse import Purse
from prm.generation.replies import Answer
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply
from prm.generation.server_config import ServersConfig
from prm.ledger import Ledger
from prm.prices import Price, price_of


@dataclasses.dataclass
class Counts:
    """What happened in this start, for the progress line and the summary."""

    replies: int = 0
    from_store: int = 0
    set_aside: int = 0
    estimated: int = 0
    loops: int = 0
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    ledger: Ledger = Ledger()
    lost: Ledger = Ledger()


@dataclasses.dataclass
class Tries:
    """How often a request failed, and how much of what it asks for was left out.

    ``peer`` is the last that was tried; ``probing`` is what finding out about it cost, and
    ``is_sent`` says whether it came to the request itself.
    """

    failures: int = 0
    avoid: str | None = None
    peer: Peer | None = None
    level: int = 0
    probing: Ledger = Ledger()
    is_sent: bool = False


class Sender:
    """Sends calls to the endpoints, within the budget, and counts what they cost."""

    def __init__(
        self,
        config: ServersConfig,
        store: RequestStore | None,
        num_shards: int,
    ) -> None:
        """Ask nothing yet.

        Raises:
            ConfigError: an unknown price, a key that is not there, a budget that limits nothing.
        """
        self.counts = Counts()
        self.pool = EndpointPool(config.endpoints)
        self.peers = [
            Peer(
                Client(endpoint, timeout=config.timeout),
                price_of(endpoint.price or config.price, config.prices),
            )
            for endpoint in config.endpoints
        ]
        dearest = _dearest([peer.price for peer in self.peers])
        spent = _spent(config, store, num_shards)
        self.budget = Budget(config.budget, dearest, spent, num_shards)
        self.patience = Patience(config.patience, is_vain=self._is_vain, give_up=self.stop)
        self._purse = Purse(self.budget)
        self._guard, self._store = config.loop_guard, store
        self._stopped: Exception | None = None

    async def close(self) -> None:
        """Close the connections."""
        for peer in self.peers:
            await peer.client.close()

    def stop(self, error: Exception) -> None:
        """Send nothing more; who waits or asks is told the first error."""
        self._stopped = self._stopped or error
        self.pool.stop(self._stopped)
        self._purse.stop(self._stopped)

    async def send(self, call: Call, tries: Tries) -> Answered:
        """One request to one endpoint, within the budget."""
        self._check_stopped()
        must_probe = any(peer.probing_costs(call) for peer in self.peers)
        reservation = await self._purse.reserve(with_probe(call) if must_probe else call)
        spent = tries.probing = Ledger()
        watch = Watch(heard=self.patience.heard)
        try:
            tokens = max_prompt_tokens(call.prompt) + call.n * call.params.max_tokens
            barred = {peer.name: why for peer in self.peers if (why := peer.cannot(call))}
            with await self.pool.acquire(tokens, tries.avoid, barred) as lease:
                self._check_stopped()
                tries.peer, tries.is_sent = self.peers[lease.endpoint.index], False
                watch.alive = lease.alive
                answered = await self._send(call, tries, lease, watch)
            spent = answered.peer.price.priced(answered.answer.cost)
            self.patience.heard()
            return answered
        except Fault as fault:
            spent = self._priced(fault.may_have_cost, tries)
            await self.lose(spent)
            raise
        except asyncio.CancelledError:
            spent = self._priced(watch.lost, tries)
            self._note_loss(spent)
            raise
        finally:
            self._purse.settle(reservation, spent + tries.probing)

    def note(self, fault: Fault, tries: Tries) -> None:
        """Count a fault, and give up when nothing has answered for too long.

        Raises:
            GenerationError: no endpoint has answered for ``patience`` seconds.
        """
        self.counts.faults[fault.kind] += 1
        tries.avoid = tries.peer.name if tries.peer else None
        # A server that is not there or is too busy says nothing against the request, and what
        # went wrong before it was sent does not either.
        is_server = fault.kind == "rate_limited" or fault.is_unreachable or not tries.is_sent
        tries.failures += fault.is_transient and not is_server
        self.patience.check(f"{tries.avoid}: {fault}")

    async def lose(self, cost: Ledger) -> None:
        """Note what was spent without an answer to show for it."""
        if cost.tokens:
            self.counts.lost += cost
            if self._store is not None:
                await self._store.add_loss(cost)

    async def _send(self, call: Call, tries: Tries, lease: Lease, watch: Watch) -> Answered:
        """The request itself, and what must be known of the server before it."""
        begun = time.monotonic()
        peer = self.peers[lease.endpoint.index]
        try:
            if peer.must_probe(call):
                tries.probing = peer.price.priced(await peer.probe(call, watch))
                await self.lose(tries.probing)
            tries.is_sent = True
            answer = await peer.ask(call, self._guard, tries.level, watch)
        except Fault as fault:
            lease.failed(fault)
            raise
        seconds = time.monotonic() - begun
        lease.done(answer.cost.generated_tokens, seconds, counted_tokens=answer.cost.tokens)
        return Answered(answer, peer, seconds)

    def _check_stopped(self) -> None:
        if self._stopped:
            raise self._stopped

    def _is_vain(self) -> bool:
        """Whether nothing is under way and no endpoint may be asked."""
        return not self.pool.in_flight and all(e.status != "awake" for e in self.pool.state())

    def _priced(self, cost: Ledger, tries: Tries) -> Ledger:
        return tries.peer.price.priced(cost) if tries.peer else cost

    def _note_loss(self, cost: Ledger) -> None:
        """The same for a request that is cancelled and must not wait."""
        if cost.tokens:
            self.counts.lost += cost
            if self._store is not None:
                self._store.note_loss(cost)


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """An answer, who gave it, and how long it took."""

    answer: Answer
    peer: Peer
    seconds: float

    def replies(self) -> list[Reply]:
        """One for each sample. The first bears the prompt and the time, each its own text."""
        whole = self.answer.cost
        replies = []
        for number, generation in enumerate(self.answer.generations):
            cost = Ledger(generated_tokens=generation.generated_tokens)
            if number == 0:
                cost = dataclasses.replace(
                    cost,
                    prompt_tokens=whole.prompt_tokens,
                    cached_tokens=whole.cached_tokens,
                    seconds=self.seconds,
                )
            cost = self.peer.price.priced(cost)
            replies.append(Reply(generation, cost, self.peer.name, self.answer.is_estimated))
        return replies


def _spent(config: ServersConfig, store: RequestStore | None, num_shards: int) -> Ledger:
    """What this shard has spent, and its part of what was spent with other numbers of shards."""
    if store is None or not (config.budget.dollars or config.budget.tokens):
        return store.spent if store else Ledger()
    others = store.spent_elsewhere()
    return store.spent + Ledger(
        prompt_tokens=math.ceil(others.prompt_tokens / num_shards),
        generated_tokens=math.ceil(others.generated_tokens / num_shards),
        dollars=others.dollars / num_shards,
    )


def _dearest(prices: Sequence[Price]) -> Price:
    """What the budget reckons with: no endpoint costs more."""
    return Price(
        prompt=max(price.prompt for price in prices),
        generated=max(price.generated for price in prices),
        cached=max(price.prompt if price.cached is None else price.cached for price in prices),
    )
