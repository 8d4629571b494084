"""Who answers the drafts: a model in this process, or servers. Both behind one `Asker`."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from data_gen.drafts import Draft, by_prompt
from data_gen.models import seed_of
from prm.generation.requests import Reply, SetAside
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, Prompt, SamplingParams

if TYPE_CHECKING:
    from prm.generation.request_store import RequestStore
    from prm.generation.server import ServerSampler


class Asker(Protocol):
    """Answers drafts."""

    name: str
    """The model, as the solutions record it."""
    keeps_answers: bool
    """Whether the same drafts give the same replies again, without cost."""

    @property
    def lost(self) -> Ledger:
        """What failed requests may have cost, in earlier starts too."""
        ...

    async def ask(self, drafts: Sequence[Draft], seed: int) -> list[Reply | SetAside]:
        """The replies in order; ``seed`` is of the drafts' batch and round."""
        ...

    def room(self) -> int:
        """How many more drafts are worth asking for now; one batch may always be under way."""
        ...


class InProcessAsker:
    """A model in this process: a batch at a time, seeded as a whole."""

    keeps_answers = False
    lost = Ledger()

    def __init__(self, generator: ChatGenerator, params: SamplingParams) -> None:
        """``params.n`` is not looked at."""
        self.name = generator.name
        self._generator = generator
        self._params = params

    def room(self) -> int:
        """One batch at a time."""
        return 0

    async def ask(self, drafts: Sequence[Draft], seed: int) -> list[Reply | SetAside]:
        """Samples of a prompt together, prompts with as many samples in one call."""
        by_count: dict[int, list[tuple[Prompt, list[int]]]] = defaultdict(list)
        for prompt, places in by_prompt(drafts):
            by_count[len(places)].append((prompt, places))
        replies: dict[int, Reply | SetAside] = {}
        for number, (count, groups) in enumerate(by_count.items()):
            part = seed if number == 0 else seed_of(seed, "samples", count)
            replies |= self._generate(groups, count, part)
        return [replies[place] for place in range(len(drafts))]

    def _generate(
        self, groups: list[tuple[Prompt, list[int]]], count: int, seed: int
    ) -> dict[int, Reply | SetAside]:
        begun = time.monotonic()
        params = dataclasses.replace(self._params, n=count)
        texts = self._generator.generate([prompt for prompt, _ in groups], params, seed=seed)
        seconds = (time.monotonic() - begun) / (len(groups) * count)
        replies: dict[int, Reply | SetAside] = {}
        for (_, places), group in zip(groups, texts, strict=True):
            for number, (place, text) in enumerate(zip(places, group, strict=True)):
                read = 0 if number else text.prompt_tokens
                replies[place] = Reply(text, Ledger(read, text.generated_tokens, seconds))
        return replies


class ServerAsker:
    """Servers, whose answers are kept. The seed of the batch is not used: content decides."""

    keeps_answers = True

    def __init__(
        self,
        sampler: ServerSampler,
        store: RequestStore,
        model: str,
        params: SamplingParams,
        seed: int,
    ) -> None:
        """``store``: the sampler's. ``seed``: of the run; another one asks for other samples."""
        self.name = model
        self.sampler = sampler
        self._store = store
        self._params = dataclasses.replace(params, n=1)
        self._seed = seed

    def room(self) -> int:
        """As many are open as the servers can take twice, so that none of them waits for us.

        A batch whose last sample is slow takes up only that sample's place.
        """
        return 2 * self.sampler.pool.capacity - self.sampler.num_open

    @property
    def lost(self) -> Ledger:
        """As the store has it."""
        return self._store.lost

    async def ask(self, drafts: Sequence[Draft], seed: int) -> list[Reply | SetAside]:  # noqa: ARG002
        """All drafts side by side."""
        from prm.generation.server_generator import request_for

        requests = [
            request_for(
                self.sampler.config,
                self.name,
                draft.prompt,
                self._params,
                index=draft.index,
                seed=self._seed,
            )
            for draft in drafts
        ]
        return await self.sampler.sample(requests)
