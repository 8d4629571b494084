"""Samples from any number of OpenAI-compatible endpoints that serve the same model.

A request passes: the store (was it answered before?), the budget (is there room for the most that
it can cost?), the pool (which endpoint, and when), the client; a fault sends it round again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

from prm.errors import BudgetError, ConfigError, GenerationError
from prm.generation.budget import Budget, Reservation, max_prompt_tokens
from prm.generation.calls import Call
from prm.generation.client import Client
from prm.generation.endpoints import EndpointPool, Lease
from prm.generation.faults import Fault
from prm.generation.peers import Peer, with_probe
from prm.generation.replies import Answer
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, Request, SetAside
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
class _State:
    """How often a request failed, and how much of what it asks for was left out.

    ``peer`` is the last that was tried; ``probing`` is what finding out about it cost.
    """

    failures: int = 0
    avoid: str | None = None
    peer: Peer | None = None
    level: int = 0
    probing: Ledger = Ledger()


class ServerSampler:
    """Asks for samples, any number side by side. Use as an async context manager."""

    def __init__(
        self,
        config: ServersConfig,
        *,
        store: RequestStore | None = None,
        num_shards: int = 1,
    ) -> None:
        """``store``: where answers are kept; without one everything is asked anew.

        Raises:
            ConfigError: no endpoint, an unknown price, a key that is not there.
        """
        if not config.endpoints:
            raise ConfigError("servers.endpoints is empty; give at least one: [{url: ...}]")
        self.config = config
        self.counts = Counts()
        self.pool = EndpointPool(config.endpoints)
        self._store = store
        self._peers = [
            Peer(
                Client(endpoint, timeout=config.timeout),
                price_of(endpoint.price or config.price, config.prices),
            )
            for endpoint in config.endpoints
        ]
        spent = store.spent if store else Ledger()
        dearest = _dearest([peer.price for peer in self._peers])
        self.budget = Budget(config.budget, dearest, spent, num_shards)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pending: dict[str, asyncio.Future[Reply | SetAside]] = {}
        self._stopped: GenerationError | None = None
        self._last_reply = time.monotonic()

    async def __aenter__(self) -> ServerSampler:
        """Begin."""
        self._last_reply = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections; the store belongs to the caller."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        for peer in self._peers:
            await peer.client.close()

    async def sample(self, requests: Sequence[Request]) -> list[Reply | SetAside]:
        """The replies in order, from the store or from the servers.

        Raises:
            BudgetError: there is no room for the next request. What was asked is in the store.
            GenerationError: no endpoint can answer, or none has for too long.
        """
        wanted = {request.key: request for request in requests}
        known = self._known(list(wanted))
        todo = {k: r for k, r in wanted.items() if k not in known and k not in self._pending}
        loop = asyncio.get_running_loop()
        self._pending |= {key: loop.create_future() for key in todo}
        waits = {key: self._pending[key] for key in wanted if key not in known}
        # What is under way is paid for: after an error the others are awaited all the same.
        await asyncio.gather(*(self._answer(group) for group in self._groups(todo)))
        await asyncio.gather(*waits.values(), return_exceptions=True)
        known |= {key: future.result() for key, future in waits.items()}
        return [known[request.key] for request in requests]

    def stop(self, error: GenerationError) -> None:
        """Send nothing more; what is under way is finished and kept."""
        self._stopped = self._stopped or error
        self.pool.stop(self._stopped)
        self._wake()

    def _known(self, keys: list[str]) -> dict[str, Reply | SetAside]:
        if self._store is None:
            return {}
        known: dict[str, Reply | SetAside] = dict(self._store.get_many(keys))
        self.counts.from_store += len(known)
        for key in keys if self._store.num_set_aside else ():
            aside = None if key in known else self._store.is_set_aside(key)
            if aside is not None:
                known[key] = SetAside(*aside)
        return known

    def _groups(self, todo: dict[str, Request]) -> list[list[Request]]:
        """The requests that are sent as one: several samples of the same prompt.

        A stream is stopped alone and a seed belongs to one sample, so these go apart.
        """
        if self.config.loop_guard.enabled or self.config.send_seed:
            return [[request] for request in todo.values()]
        groups: dict[str, list[Request]] = defaultdict(list)
        for request in todo.values():
            first = dataclasses.replace(request, index=0) if request.index else request
            groups[first.key].append(request)
        return list(groups.values())

    async def _answer(self, group: list[Request]) -> None:
        """Ask, keep, and hand the replies to whoever waits for them."""
        try:
            replies = await self._ask(group)
        except BaseException as error:
            for request in group:
                future = self._pending.pop(request.key)
                if not future.done():
                    future.set_exception(_own_error(error))
                    future.exception()  # it is raised by whoever waits, if anyone does
            if not isinstance(error, GenerationError):
                raise
            self.stop(error)
            return
        for request, reply in zip(group, replies, strict=True):
            future = self._pending.pop(request.key)
            if not future.done():
                future.set_result(reply)

    async def _ask(self, group: list[Request]) -> list[Reply | SetAside]:
        """The replies to a group, however many tries that takes."""
        state = _State()
        while True:
            if len(group) > 1 and not self._has_several():
                return await self._apart(group)
            try:
                answered = await self._try(group, state)
            except Fault as fault:
                self._note(fault, state)
                if fault.is_poison and len(group) > 1:
                    return await self._refused(group, state)
                if fault.is_poison and self._reduce(state):
                    continue
                if fault.is_poison or state.failures >= self.config.tries:
                    return [await self._set_aside(request, fault) for request in group]
                continue
            return await self._keep(group, answered)

    async def _apart(self, group: list[Request]) -> list[Reply | SetAside]:
        """Each sample as a request of its own: the server does not give several at once."""
        parts = await asyncio.gather(*(self._ask([request]) for request in group))
        return [reply for part in parts for reply in part]

    async def _refused(self, group: list[Request], state: _State) -> list[Reply | SetAside]:
        """Each sample alone; where that is answered, several at once are not asked for again."""
        replies = await self._apart(group)
        if state.peer is not None and any(isinstance(reply, Reply) for reply in replies):
            state.peer.has_several = False
        return replies

    def _has_several(self) -> bool:
        return all(peer.has_several for peer in self._peers)

    async def _try(self, group: list[Request], state: _State) -> _Answered:
        """One request to one endpoint, within the budget."""
        call = self._call(group[0], len(group))
        must_probe = any(peer.probing_costs(call) for peer in self._peers)
        reservation = await self._reserve(with_probe(call) if must_probe else call)
        spent = state.probing = Ledger()
        try:
            tokens = max_prompt_tokens(call.prompt) + call.n * call.params.max_tokens
            with await self.pool.acquire(tokens, state.avoid) as lease:
                if self._stopped:
                    raise self._stopped
                peer = state.peer = self._peers[lease.endpoint.index]
                answered = await self._send(call, peer, lease, state)
            spent = peer.price.priced(answered.answer.cost)
            self._last_reply = time.monotonic()
            return answered
        except Fault as fault:
            spent = peer.price.priced(fault.may_have_cost)
            await self._lose(spent)
            raise
        finally:
            self.budget.settle(reservation, spent + state.probing)
            self._wake()

    async def _send(self, call: Call, peer: Peer, lease: Lease, state: _State) -> _Answered:
        """The request itself, and what must be known of the server before it."""
        begun = time.monotonic()
        try:
            if peer.must_probe(call):
                state.probing = peer.price.priced(await peer.probe(call))
                await self._lose(state.probing)
            answer = await peer.ask(call, self.config.loop_guard, state.level, lease.alive)
        except Fault as fault:
            lease.failed(fault)
            raise
        seconds = time.monotonic() - begun
        lease.done(answer.cost.generated_tokens, seconds, counted_tokens=answer.cost.tokens)
        return _Answered(answer, peer, seconds)

    def _call(self, request: Request, n: int) -> Call:
        """The request as it is sent. Its seed is a function of its content."""
        seed = int(request.key[:8], 16) >> 1 if self.config.send_seed else None
        return Call(request.prompt, request.params, request.model, n, seed, request.extra)

    async def _reserve(self, call: Call) -> Reservation:
        """Room in the budget, as soon as there is some.

        Raises:
            BudgetError: there never will be.
        """
        while True:
            if self._stopped:
                raise self._stopped
            words = call.prompt, call.params, call.n
            reservation = self.budget.try_reserve(*words)
            if reservation is not None:
                return reservation
            if self.budget.is_exhausted(*words):
                raise BudgetError(
                    f"the budget leaves no room for the next request: {self.budget.describe()}. "
                    "Raise servers.budget and start again: what was paid for is kept"
                )
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def _wake(self) -> None:
        """Let all that wait for the budget look again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _lose(self, cost: Ledger) -> None:
        """Note what was spent without an answer to show for it."""
        if cost.tokens:
            self.counts.lost += cost
            if self._store is not None:
                await self._store.add_loss(cost)

    def _note(self, fault: Fault, state: _State) -> None:
        """Count a fault, and give up when nothing has answered for too long.

        Raises:
            GenerationError: no endpoint has answered for ``patience`` seconds.
        """
        self.counts.faults[fault.kind] += 1
        state.avoid = state.peer.name if state.peer else None
        # A server that is not there or is too busy says nothing against the request.
        if fault.is_transient and fault.kind != "rate_limited" and not fault.is_unreachable:
            state.failures += 1
        silent = time.monotonic() - self._last_reply
        if silent > self.config.patience:
            raise GenerationError(
                f"no endpoint has answered for {silent:.0f} s (servers.patience); the last fault: "
                f"{state.avoid}: {fault}. "
                "What was answered is kept: start again when the servers are up"
            )

    def _reduce(self, state: _State) -> bool:
        """Leave something out of a refused request, if there is something."""
        if state.peer is None or not state.peer.can_reduce(self.config.loop_guard, state.level):
            return False
        state.level += 1
        return True

    async def _set_aside(self, request: Request, fault: Fault) -> SetAside:
        """Poison, or something that failed too often: the rest goes on."""
        reason = fault.kind if fault.is_poison else f"gave_up_{fault.kind}"
        self.counts.set_aside += 1
        if self._store is not None:
            await self._store.set_aside(request.key, reason, fault.detail)
        return SetAside(reason, fault.detail)

    async def _keep(self, group: list[Request], answered: _Answered) -> list[Reply | SetAside]:
        """Store the samples; fewer than asked for are kept, and the others are asked again."""
        replies = answered.replies()[: len(group)]
        named = {request.key: reply for request, reply in zip(group, replies, strict=False)}
        self._count(replies)
        if self._store is not None:
            await self._store.put(named)
        rest = group[len(replies) :]
        return [*replies, *(await self._apart(rest) if rest else [])]

    def _count(self, replies: list[Reply]) -> None:
        counts = self.counts
        counts.replies += len(replies)
        for reply in replies:
            counts.estimated += reply.is_estimated
            counts.loops += reply.generation.finish_reason == "loop"
            counts.ledger += reply.cost


@dataclasses.dataclass(frozen=True, slots=True)
class _Answered:
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


def _dearest(prices: Sequence[Price]) -> Price:
    """What the budget reckons with: no endpoint costs more."""
    return Price(
        prompt=max(price.prompt for price in prices),
        generated=max(price.generated for price in prices),
        cached=max(price.prompt if price.cached is None else price.cached for price in prices),
    )


def _own_error(error: BaseException) -> BaseException:
    """What is raised to others that wait for the same request: not our cancellation."""
    if isinstance(error, asyncio.CancelledError):
        return GenerationError("the request was cancelled")
    return error
