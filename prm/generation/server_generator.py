"""The `ChatGenerator` protocol on top of `ServerSampler`: for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import threading
from collections import Counter
from collections.abc import Sequence

from prm.errors import GenerationError
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, Request, SetAside
from prm.generation.server import ServerSampler
from prm.generation.server_config import ServersConfig
from prm.ledger import Ledger
from prm.protocols import Generation, Prompt, SamplingParams


class ServerGenerator:
    """Texts from servers, all prompts of a call side by side.

    ``ledger`` is what the texts that it gave cost, also those from the store. Its requests run in a
    thread of their own, so it can be called from anywhere, also from code that runs in an event
    loop. Close it, or use it as a context manager.
    """

    keeps_answers = True
    """The same prompt, seed and place give the same text again: they are its name in the store."""

    def __init__(
        self,
        config: ServersConfig,
        model: str,
        *,
        store: RequestStore | None = None,
        num_shards: int = 1,
    ) -> None:
        """``store``: where answers are kept; without one every call asks anew."""
        self.name = model
        self.config = config
        self.ledger = Ledger()
        self._sampler = ServerSampler(config, store=store, num_shards=num_shards)
        self._store = store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> Ledger:
        """What failed requests may have cost; with a store in earlier starts too."""
        return self._sampler.counts.lost if self._store is None else self._store.lost

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt, in order.

        With a store the same call gives the same texts; else only if the server honours seeds
        (servers.send_seed). A text that could not be had is empty, with finish_reason "error".

        Raises:
            GenerationError: the budget is spent, no endpoint answers, or it was closed.
        """
        if self._loop.is_closed():
            raise GenerationError("the generator is closed; make another one")
        requests = self._requests(prompts, params, seed)
        work = asyncio.run_coroutine_threadsafe(self._ask(requests), self._loop)
        try:
            texts = work.result()
        except concurrent.futures.CancelledError:
            raise GenerationError("the generator was closed before the texts were there") from None
        return [texts[i : i + params.n] for i in range(0, len(texts), params.n)]

    def close(self) -> None:
        """Close the connections and the store; calls that are under way end with an error."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> ServerGenerator:
        """Return the generator."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    async def _ask(self, requests: Sequence[Request]) -> list[Generation]:
        replies = await self._sampler.sample(requests)
        # Here and not in `generate`, which several threads may be in.
        self.ledger += sum((r.cost for r in replies if isinstance(r, Reply)), Ledger())
        return [_generation(reply) for reply in replies]

    async def _end(self) -> None:
        """End what is under way, then the connections."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._sampler.close()

    def _requests(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int
    ) -> list[Request]:
        """A prompt that stands there twice gets samples of its own each time."""
        seen: Counter[Prompt] = Counter()
        requests = []
        for prompt in prompts:
            first = seen[prompt]
            seen[prompt] += params.n
            requests += [
                request_for(self.config, self.name, prompt, params, index=index, seed=seed)
                for index in range(first, first + params.n)
            ]
        return requests


def request_for(
    config: ServersConfig,
    model: str,
    prompt: Prompt,
    params: SamplingParams,
    *,
    index: int,
    seed: int,
) -> Request:
    """The request for one sample under these settings."""
    guard = dataclasses.asdict(config.loop_guard) if config.loop_guard.enabled else None
    return Request(
        prompt=prompt,
        params=params,
        model=model,
        revision=config.revision,
        index=index,
        seed=seed,
        extra=config.extra,
        guard=guard,
    )


def _generation(reply: Reply | SetAside) -> Generation:
    if isinstance(reply, SetAside):
        return Generation("", "error", 0, 0)
    return reply.generation
