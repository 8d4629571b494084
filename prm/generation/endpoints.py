"""Which of several endpoints that serve one model gets the next request, and when.

    pool = EndpointPool([EndpointConfig("http://node7:8000/v1"), EndpointConfig(...)])
    with await pool.acquire(num_tokens=900) as lease:
        ...                                        # ask lease.endpoint.config.url
        lease.done(num_tokens=700, seconds=31.0)   # or lease.failed(fault)

The least loaded endpoint for its weight is taken among those that are awake, below their
concurrency and within their limits a minute. One that fails rests, longer each time, and comes
back half-open: a single request, and all of them once that one is answered. No HTTP in here; one
event loop; nothing polls.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from prm.errors import ConfigError, GenerationError
from prm.generation.endpoint import Endpoint, EndpointConfig, EndpointState
from prm.generation.faults import Fault

__all__ = ["Endpoint", "EndpointConfig", "EndpointPool", "EndpointState", "Lease"]

# How far behind the head of the queue a request is looked for that does not avoid an endpoint.
_LOOK_AHEAD = 16
# Timers are never set closer than this: floating-point times must not make them spin.
_SHORTEST_TIMER = 1e-4


class Lease:
    """The right to send one request; ``done``, ``failed`` or ``release`` ends it, once.

    As a context manager it is released where neither of the others was called (cancellation).
    """

    __slots__ = ("_is_over", "_pool", "endpoint", "epoch", "num_tokens", "started")

    def __init__(
        self, pool: EndpointPool, endpoint: Endpoint, num_tokens: int, started: float
    ) -> None:
        """Only the pool makes these."""
        self._pool = pool
        self._is_over = False
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.num_tokens = num_tokens
        self.started = started

    def alive(self) -> None:
        """Say that the reply has begun: an endpoint on trial need not wait for its end."""
        if self.endpoint.awaken(self._pool.clock()):
            self._pool.pump()

    def done(
        self,
        num_tokens: int,
        seconds: float,
        *,
        counted_tokens: int | None = None,
    ) -> None:
        """End with a reply of ``num_tokens`` written tokens that took ``seconds`` in all.

        ``counted_tokens`` replaces the estimate given to `acquire` in the limit a minute.
        """
        self._end()
        endpoint = self.endpoint
        if endpoint.tokens is not None and counted_tokens is not None:
            endpoint.tokens.give_back(self.num_tokens - counted_tokens)
        endpoint.succeeded(self, self._pool.clock(), num_tokens, seconds)
        self._pool.pump()

    def failed(self, fault: Fault) -> None:
        """End without a reply."""
        self._end()
        self.endpoint.failed(self, self._pool.clock(), fault)
        self._pool.pump()

    def release(self) -> None:
        """End without a word on the endpoint: the request was given up or never sent."""
        self._end()
        self.endpoint.leave(self)
        self._pool.pump()

    def __enter__(self) -> Lease:
        """The lease itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Release it where nothing was said."""
        if not self._is_over:
            self.release()

    def _end(self) -> None:
        assert not self._is_over, "a lease ends once"
        self._is_over = True


@dataclasses.dataclass(slots=True, eq=False)
class _Queue:
    """Those that wait for one of the same endpoints; ``barred`` says why not for the others."""

    endpoints: list[Endpoint]
    barred: Mapping[str, str]
    waiters: deque[_Waiter]


@dataclasses.dataclass(slots=True, eq=False)
class _Waiter:
    future: asyncio.Future[Lease]
    queue: _Queue
    number: int
    num_tokens: int
    avoid: str | None


class EndpointPool:
    """Hands out leases for requests over several endpoints, first come, first served."""

    def __init__(
        self,
        configs: Sequence[EndpointConfig],
        *,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 0,
    ) -> None:
        """``clock`` gives seconds and runs as the event loop's does; ``seed`` is for jitter.

        Raises:
            ConfigError: no endpoint, or the same one twice.
        """
        names = [config.name for config in configs]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"endpoints {names}: at least one is needed, and each once")
        self.clock = clock
        source = random.Random(seed)
        self.endpoints = [Endpoint(c, i, clock(), source) for i, c in enumerate(configs)]
        self._queues: dict[frozenset[str], _Queue] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def acquire(
        self,
        num_tokens: int = 0,
        avoid: str | None = None,
        barred: Mapping[str, str] = MappingProxyType({}),
    ) -> Lease:
        """Wait until an endpoint may take a request.

        ``num_tokens`` is what the request is expected to count against a limit a minute.
        ``avoid`` names the endpoint that has just failed: another one is preferred.
        ``barred`` are those that cannot answer such a request, each with a sentence on it.

        Raises:
            GenerationError: every endpoint is barred or out for good.
        """
        queue = self._queue_of(barred)
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(future, queue, next(self._numbers), num_tokens, avoid)
        queue.waiters.append(waiter)
        if len(queue.waiters) == 1:  # Those that wait already found every endpoint closed.
            self.pump()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def stop(self, error: Exception) -> None:
        """Raise the error to all that wait; it may be long until their turn would come."""
        for queue in self._queues.values():
            _end(queue, error)

    def state(self) -> list[EndpointState]:
        """How each endpoint is doing now."""
        now = self.clock()
        return [endpoint.state(now) for endpoint in self.endpoints]

    @property
    def in_flight(self) -> int:
        """Leases that have not ended."""
        return sum(endpoint.in_flight for endpoint in self.endpoints)

    @property
    def capacity(self) -> int:
        """Requests that may be in flight now; keep more than these waiting to let it grow."""
        return sum(e.finder.limit for e in self.endpoints if not e.is_out)

    def pump(self) -> None:
        """Start what can be started, and set a timer for what time alone will open."""
        now = self.clock()
        while match := self._match(now):
            waiter, endpoint = match
            waiter.queue.waiters.remove(waiter)
            if not waiter.future.done():
                lease = Lease(self, endpoint, waiter.num_tokens, now)
                endpoint.enter(lease, now)
                waiter.future.set_result(lease)
        for queue in self._queues.values():
            if queue.waiters and all(endpoint.is_out for endpoint in queue.endpoints):
                _end(queue, self._none_left(queue))
        self._set_timer(now)

    def _queue_of(self, barred: Mapping[str, str]) -> _Queue:
        names = frozenset(barred)
        if names not in self._queues:
            able = [endpoint for endpoint in self.endpoints if endpoint.name not in names]
            self._queues[names] = _Queue(able, barred, deque())
        return self._queues[names]

    def _match(self, now: float) -> tuple[_Waiter, Endpoint] | None:
        """The next request that can start, and its endpoint: of all queues', who came first."""
        found = [self._match_in(queue, now) for queue in self._queues.values() if queue.waiters]
        return min(filter(None, found), key=lambda match: match[0].number, default=None)

    def _match_in(self, queue: _Queue, now: float) -> tuple[_Waiter, Endpoint] | None:
        """The same in one queue.

        The head goes first, but an endpoint that it avoids is offered to those behind it as long
        as there is another one to wait for.
        """
        second_best = None
        for waiter in itertools.islice(queue.waiters, _LOOK_AHEAD):
            endpoint = min(
                (e for e in queue.endpoints if e.opens_at(now, waiter.num_tokens) <= now),
                key=lambda e: (e.name == waiter.avoid, e.load),
                default=None,
            )
            if endpoint is None:
                break
            others = (e for e in queue.endpoints if e is not endpoint)
            if endpoint.name != waiter.avoid or all(e.status(now) != "awake" for e in others):
                return waiter, endpoint
            second_best = second_best or (waiter, endpoint)
        return second_best

    def _set_timer(self, now: float) -> None:
        """One timer for the queues' heads; one that is due earlier stays: it sets the next."""
        waiting = [queue for queue in self._queues.values() if queue.waiters]
        moment = min(
            (e.opens_at(now, q.waiters[0].num_tokens) for q in waiting for e in q.endpoints),
            default=math.inf,
        )
        if self._timer is not None:
            if waiting and self._timer_at <= moment:
                return
            self._timer.cancel()
            self._timer = None
        if moment < math.inf:
            delay = max(moment - now, _SHORTEST_TIMER)
            self._timer_at = now + delay
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _forget(self, waiter: _Waiter) -> None:
        """Take back what a cancelled `acquire` held or asked for."""
        if waiter.future.done() and not waiter.future.cancelled():
            if waiter.future.exception() is None:
                waiter.future.result().release()
        elif waiter in waiter.queue.waiters:
            waiter.queue.waiters.remove(waiter)
            self.pump()

    def _none_left(self, queue: _Queue) -> GenerationError:
        reasons = (queue.barred.get(e.name) or f"{e.name}: {e.reason}" for e in self.endpoints)
        return GenerationError(f"no endpoint is left: {'; '.join(reasons)}")


def _end(queue: _Queue, error: Exception) -> None:
    """Raise an error to all that wait in a queue."""
    for waiter in queue.waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)
    queue.waiters.clear()
