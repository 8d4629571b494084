"""Samples from any number of OpenAI-compatible endpoints that serve the same model.

A request passes: the store (was it answered before?), the budget (is there room for the most that
it can cost?), the pool (which endpoint, and when), the client; a fault sends it round again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prm.errors import ConfigError, GenerationError
from prm.generation.calls import Call
from prm.generation.faults import Fault
from prm.generation.peers import Unable
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, Request, SetAside
from prm.generation.sender import Answered, Sender, Tries
from prm.generation.server_config import ServersConfig
from prm.ledger import Ledger


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
        self._sender = Sender(config, store, num_shards)
        self.counts, self.pool = self._sender.counts, self._sender.pool
        self.budget = self._sender.budget
        self._store = store
        self._pending: dict[str, asyncio.Future[Reply | SetAside]] = {}
        self._seen: set[int] = set()

    async def __aenter__(self) -> ServerSampler:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections; the store belongs to the caller."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()

    async def sample(self, requests: Sequence[Request]) -> list[Reply | SetAside]:
        """The replies in order, from the store or from the servers.

        Raises:
            BudgetError: there is no room for the next request. What was asked is in the store.
            GenerationError: no endpoint can answer, or none has for too long.
            StoreError: the store could not be read or written.
        """
        wanted = {request.key: request for request in requests}
        loop = asyncio.get_running_loop()
        todo = {key: one for key, one in wanted.items() if key not in self._pending}
        self._pending |= {key: loop.create_future() for key in todo}
        waits = {key: self._pending[key] for key in wanted}
        await self._find_known(todo)
        if todo:
            await self._answer_all(todo, waits)
        # What is under way is paid for: after an error the others are awaited all the same.
        if waits:
            await asyncio.wait(waits.values())
        return [waits[request.key].result() for request in requests]

    @property
    def num_open(self) -> int:
        """Requests that are asked for and not answered yet."""
        return len(self._pending)

    def stop(self, error: Exception) -> None:
        """Send nothing more; what is under way is finished and kept."""
        self._sender.stop(error)

    async def _find_known(self, todo: dict[str, Request]) -> None:
        """Take out of ``todo`` what the store knows; it waits for the disk in another thread."""
        if self._store is None or not todo:
            return
        try:
            known = await asyncio.to_thread(_look_up, self._store, list(todo))
        except BaseException as error:
            self._fail(todo, error)
            raise
        for key, reply in known.items():
            del todo[key]
            self._hand_out(key, reply)
            self.counts.from_store += isinstance(reply, Reply) and hash(key) not in self._seen
        self._seen.update(map(hash, (*known, *todo)))

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

    async def _answer_all(
        self, todo: dict[str, Request], waits: dict[str, asyncio.Future[Reply | SetAside]]
    ) -> None:
        asking = [asyncio.ensure_future(self._answer(group)) for group in self._groups(todo)]
        try:
            with self._sender.patience:
                await asyncio.gather(*asking)
        except asyncio.CancelledError as error:
            await asyncio.wait(asking)
            # One that had not begun could not tell those who wait for it.
            self._fail([key for key in todo if self._pending.get(key) is waits[key]], error)
            raise

    async def _answer(self, group: list[Request]) -> None:
        """Ask, keep, and hand the replies to whoever waits for them."""
        try:
            replies = await self._ask(group)
        except BaseException as error:
            self._fail((request.key for request in group), error)
            if not isinstance(error, Exception):
                raise
            return
        for request, reply in zip(group, replies, strict=True):
            self._hand_out(request.key, reply)

    def _hand_out(self, key: str, reply: Reply | SetAside) -> None:
        self._pending.pop(key).set_result(reply)

    def _fail(self, keys: Iterable[str], error: BaseException) -> None:
        for key in keys:
            future = self._pending.pop(key)
            future.set_exception(_own_error(error))
            future.exception()  # it is raised by whoever waits, if anyone does

    async def _ask(self, group: list[Request]) -> list[Reply | SetAside]:
        """The replies to a group; after an error of whatever kind nothing more is sent."""
        try:
            return await self._try(group)
        except Exception as error:
            self.stop(error)
            raise

    async def _try(self, group: list[Request]) -> list[Reply | SetAside]:
        """The replies to a group, however many tries that takes."""
        tries = Tries()
        while True:
            if len(group) > 1 and not self._has_several():
                return await self._apart(group)
            try:
                answered = await self._sender.send(self._call(group[0], len(group)), tries)
            except Unable:
                continue
            except Fault as fault:
                self._sender.note(fault, tries)
                if fault.is_poison and len(group) > 1:
                    return await self._refused(group, tries)
                if fault.is_poison and self._reduce(tries):
                    continue
                if fault.is_poison or tries.failures >= self.config.tries:
                    return [await self._set_aside(request, fault) for request in group]
                continue
            return await self._keep(group, answered)

    async def _apart(self, group: list[Request]) -> list[Reply | SetAside]:
        """Each sample as a request of its own: the server does not give several at once."""
        asking = [asyncio.ensure_future(self._ask([request])) for request in group]
        # After an error the others are awaited all the same: they are paid for.
        await asyncio.gather(*asking, return_exceptions=True)
        return [reply for part in asking for reply in part.result()]

    async def _refused(self, group: list[Request], tries: Tries) -> list[Reply | SetAside]:
        """Each sample alone; where that is answered, several at once are not asked for again."""
        replies = await self._apart(group)
        if tries.peer is not None and any(isinstance(reply, Reply) for reply in replies):
            tries.peer.has_several = False
        return replies

    def _has_several(self) -> bool:
        return all(peer.has_several for peer in self._sender.peers)

    def _call(self, request: Request, n: int) -> Call:
        """The request as it is sent. Its seed is a function of its content."""
        seed = int(request.key[:8], 16) >> 1 if self.config.send_seed else None
        return Call(request.prompt, request.params, request.model, n, seed, request.extra)

    def _reduce(self, tries: Tries) -> bool:
        """Leave something out of a refused request, if there is something."""
        if tries.peer is None or not tries.peer.can_reduce(self.config.loop_guard, tries.level):
            return False
        tries.level += 1
        return True

    async def _set_aside(self, request: Request, fault: Fault) -> SetAside:
        """Poison, or something that failed too often: the rest goes on."""
        reason = fault.kind if fault.is_poison else f"gave_up_{fault.kind}"
        self.counts.set_aside += 1
        if self._store is not None:
            await self._store.set_aside(request.key, reason, fault.detail)
        return SetAside(reason, fault.detail)

    async def _keep(self, group: list[Request], answered: Answered) -> list[Reply | SetAside]:
        """Store the samples; fewer than asked for are kept, and the others are asked again."""
        replies, surplus = answered.replies(), Ledger()
        for reply in replies[len(group) :]:
            surplus += reply.cost
        replies = replies[: len(group)]
        await self._sender.lose(surplus)
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


def _look_up(store: RequestStore, keys: list[str]) -> dict[str, Reply | SetAside]:
    known: dict[str, Reply | SetAside] = dict(store.get_many(keys))
    for key in keys if store.num_set_aside else ():
        aside = None if key in known else store.is_set_aside(key)
        if aside is not None:
            known[key] = SetAside(*aside)
    return known


def _own_error(error: BaseException) -> BaseException:
    """What is raised to others that wait for the same request: not our cancellation."""
    if isinstance(error, asyncio.CancelledError):
        return GenerationError("the request was cancelled")
    return error
