"""A generator that stops before its budget is passed, whether it runs here or on servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from data_gen.models import seed_of
from prm.errors import BudgetError
from prm.generation.budget import Budget, Reservation
from prm.ledger import Ledger, Metered
from prm.protocols import ChatGenerator, Generation, Prompt, SamplingParams


@runtime_checkable
class GeneratesSome(Protocol):
    """A generator with a budget, whose end may leave prompts without a text."""

    ledger: Ledger

    def generate_some(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt there is room for; no text for the others."""
        ...


class BudgetedGenerator:
    """Satisfies `ChatGenerator`. Several may share one budget: completer and judge.

    Before a text is asked for, the most that it can cost is reserved; afterwards what it did cost
    takes its place. So the budget is never passed, and its last part may stay unspent.
    """

    def __init__(self, generator: ChatGenerator, budget: Budget) -> None:
        """Nothing is asked yet."""
        self.generator = generator
        self.budget = budget
        self.name = generator.name
        self.keeps_answers: bool = getattr(generator, "keeps_answers", False)
        self.ledger = Ledger()
        self.is_out = False
        """Whether a text could not be asked for any more."""

    @property
    def lost(self) -> Ledger:
        """What failed requests may have cost."""
        return getattr(self.generator, "lost", Ledger())

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt, in order.

        Raises:
            BudgetError: there is no room for all of them. What servers have answered is kept.
        """
        texts: list[list[Generation]] = [[] for _ in prompts]
        rest, wave = list(range(len(prompts))), seed
        while rest:
            found = self.generate_some([prompts[i] for i in rest], params, seed=wave)
            if not any(found):
                raise BudgetError(
                    f"the budget leaves no room for the next request: {self.budget.describe()}"
                )
            for i, group in zip(rest, found, strict=True):
                texts[i] = group
            rest = [i for i in rest if not texts[i]]
            # Kept answers are found by their seed; another model must not draw the same twice.
            wave = wave if self.keeps_answers else seed_of(wave, "next wave")
        return texts

    def generate_some(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """The same for the prompts that there is room for now; no text for the others."""
        reserved: dict[int, Reservation] = {}
        for index, prompt in enumerate(prompts):
            room = self.budget.try_reserve(prompt, params, params.n)
            if room is not None:
                reserved[index] = room
        if not reserved:
            self.is_out = self.is_out or bool(prompts)
            return [[] for _ in prompts]
        own, lost, cost = self._own_ledger(), self.lost, Ledger()
        try:
            found = self.generator.generate([prompts[i] for i in reserved], params, seed=seed)
            cost = self._own_ledger() - own if self._is_metered else tokens_of(found)
        finally:
            self.ledger += cost
            self._settle(list(reserved.values()), cost + (self.lost - lost))
        by_index = dict(zip(reserved, found, strict=True))
        return [by_index.get(index, []) for index in range(len(prompts))]

    @property
    def _is_metered(self) -> bool:
        return isinstance(self.generator, Metered)

    def _own_ledger(self) -> Ledger:
        return self.generator.ledger if isinstance(self.generator, Metered) else Ledger()

    def _settle(self, reserved: Sequence[Reservation], cost: Ledger) -> None:
        for one in reserved[1:]:
            self.budget.release(one)
        self.budget.settle(reserved[0], cost)


def tokens_of(texts: Sequence[Sequence[Generation]]) -> Ledger:
    """Of a model in this process, which reads a prompt once for all its texts."""
    return Ledger(
        sum(group[0].prompt_tokens for group in texts),
        sum(text.generated_tokens for group in texts for text in group),
    )
