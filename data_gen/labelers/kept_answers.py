"""The answers of a judge, or of who writes programs, kept like rollouts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from data_gen.labelers.rollouts import generate_metered
from data_gen.models import seed_of
from data_gen.rollout_file import Spent
from data_gen.rollout_store import RolloutStore
from prm.ledger import Ledger
from prm.protocols import Chat, ChatGenerator, Generation, Prompt, SamplingParams


class KeptAnswers:
    """Satisfies `ChatGenerator`: the same call is paid for once, chunk by chunk.

    Servers keep each answer by themselves: of theirs only the cost is noted.
    """

    def __init__(
        self,
        generator: ChatGenerator,
        store: RolloutStore,
        *,
        owner: str,
        kind: str,
        max_rows: int,
    ) -> None:
        """``kind``: what the answers are for, as their cost is counted: judge or program."""
        self.generator, self.store = generator, store
        self.name = generator.name
        self.keeps_answers: bool = getattr(generator, "keeps_answers", False)
        self.ledger = Ledger()
        self._owner, self._kind, self._max_rows = owner, kind, max_rows

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt, in order; those kept before cost nothing.

        Raises:
            BudgetError: the budget leaves no room for the next chunk; those before are kept.
        """
        size = max(1, self._max_rows // max(1, params.n))
        if self.keeps_answers:
            size = max(1, len(prompts))
        texts: list[list[Generation]] = []
        for begin in range(0, len(prompts), size):
            texts += self._chunk(prompts[begin : begin + size], params, seed)
        return texts

    def _chunk(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int
    ) -> list[list[Generation]]:
        if self.keeps_answers:
            texts, cost = generate_metered(self.generator, prompts, params, seed)
            self.store.note(Spent(self._owner, self._kind, cost))
        else:
            key = _key(self.name, prompts, params, seed)
            kept = self.store.answers(key)
            if kept is not None:
                return kept
            own_seed = seed_of(seed, key.hex())
            texts, cost = generate_metered(self.generator, prompts, params, own_seed)
            self.store.put_answers(key, texts, Spent(self._owner, self._kind, cost))
        self.ledger += cost
        return texts


def _key(name: str, prompts: Sequence[Prompt], params: SamplingParams, seed: int) -> bytes:
    plain = [dataclasses.asdict(one) if isinstance(one, Chat) else one for one in prompts]
    parts = [name, plain, dataclasses.asdict(params), seed]
    return hashlib.sha256(json.dumps(parts).encode()).digest()
