"""The answers of a judge, or of who writes programs, kept like rollouts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

from data_gen.labelers.rollouts import generate_some
from data_gen.models import seed_of
from data_gen.rollout_file import Spent
from data_gen.rollout_store import RolloutStore
from prm.errors import BudgetError
from prm.ledger import Ledger
from prm.protocols import Chat, ChatGenerator, Generation, Prompt, SamplingParams


class KeptAnswers:
    """Satisfies `ChatGenerator`: the texts of a prompt are paid for once, and counted once.

    They are kept by prompt, so that other batches and other numbers of rows find them. What
    servers keep by themselves is kept here too: read from there it would be counted as spent at
    every start. Only a prompt with a text that failed is asked, and counted, again.
    """

    def __init__(
        self,
        generator: ChatGenerator,
        store: RolloutStore,
        *,
        owner: str,
        kind: str,
        max_rows: int,
        made_with: str = "",
    ) -> None:
        """``kind``: what the answers are for, as their cost is counted: judge or program.

        ``made_with``: what decides an answer beside name, prompt, parameters and seed.
        """
        self.generator, self.store = generator, store
        self.name = generator.name
        self.keeps_answers: bool = getattr(generator, "keeps_answers", False)
        self.ledger = Ledger()
        self._owner, self._kind, self._max_rows = owner, kind, max_rows
        self._made_with = made_with

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt, in order; those kept before cost nothing.

        Raises:
            BudgetError: the budget leaves no room for all; what was answered is kept.
        """
        texts = self.generate_some(prompts, params, seed=seed)
        if not all(texts):
            raise BudgetError(f"the budget leaves no room for {texts.count([])} more prompts")
        return texts

    def generate_some(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """The same, and no text for the prompts that the budget leaves no room for.

        Equal prompts share their texts.
        """
        keys = {prompt: self._key(prompt, params, seed) for prompt in prompts}
        found = {prompt: self.store.answers(key) or [] for prompt, key in keys.items()}
        missing = {prompt: keys[prompt] for prompt, group in found.items() if not group}
        size = max(1, self._max_rows // max(1, params.n))
        if self.keeps_answers:
            size = max(1, len(missing))
        todo = list(missing)
        for begin in range(0, len(todo), size):
            chunk = {prompt: missing[prompt] for prompt in todo[begin : begin + size]}
            found |= self._ask(chunk, params, seed)
        return [found[prompt] for prompt in prompts]

    def _ask(
        self, keys: Mapping[Prompt, bytes], params: SamplingParams, seed: int
    ) -> dict[Prompt, list[Generation]]:
        """Ask and keep, until all have texts or the budget leaves no room."""
        found: dict[Prompt, list[Generation]] = {}
        while rest := [prompt for prompt in keys if prompt not in found]:
            names = b"".join(keys[prompt] for prompt in rest)
            # Texts of a model in this process depend on their company.
            own = seed if self.keeps_answers else seed_of(seed, hashlib.sha256(names).hexdigest())
            texts, cost = generate_some(self.generator, rest, params, own)
            given = {prompt: group for prompt, group in zip(rest, texts, strict=True) if group}
            if not given:
                break
            whole = {
                keys[prompt]: group
                for prompt, group in given.items()
                if all(text.finish_reason != "error" for text in group)
            }
            self.store.put_answers(whole, Spent(self._owner, self._kind, cost))
            self.ledger += cost
            found |= given
        return found

    def _key(self, prompt: Prompt, params: SamplingParams, seed: int) -> bytes:
        plain = dataclasses.asdict(prompt) if isinstance(prompt, Chat) else prompt
        parts = [self.name, self._made_with, plain, dataclasses.asdict(params), seed]
        return hashlib.sha256(json.dumps(parts).encode()).digest()
