"""What is to be sampled: which problem, which strategy, which sample, which round."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from data_gen.portfolio import spread
from data_gen.prompting import Strategy, load_strategy
from prm.errors import ConfigError
from prm.protocols import Prompt
from prm.records import Problem
from prm.traces import find_answer

# The refinement prompts ask for the new solution behind this line.
_NEW_SOLUTION = re.compile(r"^[^\w\n]*new solution[^\w\n]*$", re.IGNORECASE | re.MULTILINE)
# Refinements of refinements may have the same prompt: each round counts from a place of its own.
_INDICES_A_ROUND = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """One sample to ask for. ``round`` 0 is a first attempt; later ones refine ``parent``.

    ``index`` counts the samples of one prompt: other prompts beside it do not change it.
    """

    problem: Problem
    k: int
    strategy: str
    prompt: Prompt
    index: int
    round: int = 0

    @property
    def solution_id(self) -> str:
        """``problem_id#k``, and ``problem_id#k.r`` in refinement round r."""
        return f"{self.problem.id}#{self.k}" + (f".{self.round}" if self.round else "")

    @property
    def parent(self) -> str | None:
        """The id of the solution that this one refines."""
        if not self.round:
            return None
        return dataclasses.replace(self, round=self.round - 1).solution_id


@dataclasses.dataclass(frozen=True)
class Plan:
    """The strategies of the samples of every problem."""

    sequence: tuple[str, ...]
    strategies: Mapping[str, Strategy]
    refine: Strategy | None
    rounds: int
    seed: int

    @classmethod
    def make(
        cls, weights: Mapping[str, float], n: int, refine: str, rounds: int, seed: int
    ) -> Plan:
        """Spread ``n`` samples over the strategies; refine each ``rounds`` times.

        Raises:
            ConfigError: an unknown strategy, one that refines where a first attempt is made or
                the other way round, or rounds without a strategy for them.
        """
        strategies = {name: load_strategy(name) for name in weights}
        ids = [strategy.id for strategy in strategies.values()]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ConfigError(f"strategies: more than one is {twice[0]}; give each its own name")
        for name, strategy in strategies.items():
            if strategy.checks:
                raise ConfigError(f"strategies: {name} checks a solution and writes none")
            if strategy.refines:
                raise ConfigError(f"strategies: {name} refines a solution; name it under refine")
        if rounds < 0 or bool(rounds) != bool(refine):
            raise ConfigError(
                f"refine is {refine!r} with refine_rounds {rounds}: give both, or neither"
            )
        second = load_strategy(refine) if refine else None
        if second is not None and second.checks:
            raise ConfigError(f"refine: {refine} checks a solution and writes no better one")
        if second is not None and not second.refines:
            raise ConfigError(f"refine: {refine} has no slot {{solution}}; find_and_fix has")
        return cls(tuple(spread(weights, n)), strategies, second, rounds, seed)

    @property
    def every_strategy(self) -> list[Strategy]:
        """Those of first attempts and of refinements."""
        return [*self.strategies.values(), *([self.refine] if self.refine else [])]

    @property
    def num_samples(self) -> int:
        """Of one problem, refinements included."""
        return len(self.sequence) * (1 + self.rounds)

    def first(self, problem: Problem) -> list[Draft]:
        """The first attempts at a problem."""
        prompts = {
            name: strategy.render(problem, seed=self.seed)
            for name, strategy in self.strategies.items()
        }
        count = Counter[Prompt]()
        drafts = []
        for k, name in enumerate(self.sequence):
            prompt = prompts[name]
            drafts.append(Draft(problem, k, self.strategies[name].id, prompt, count[prompt]))
            count[prompt] += 1
        return drafts

    def refined(self, texts: Iterable[tuple[Draft, str]]) -> list[Draft]:
        """The next round of samples, in order, that came out as these texts."""
        if self.refine is None:
            raise ValueError("no strategy refines here")
        count = Counter[tuple[str, Prompt]]()
        drafts = []
        for draft, text in texts:
            prompt = self.refine.render(draft.problem, seed=self.seed, solution=text)
            index = draft.round * _INDICES_A_ROUND + count[draft.problem.id, prompt]
            count[draft.problem.id, prompt] += 1
            number = draft.round + 1
            drafts.append(Draft(draft.problem, draft.k, self.refine.id, prompt, index, number))
        return drafts


def solution_part(text: str, *, is_open: bool = False) -> int:
    """Where the solution begins in the text of a refinement: behind its last "New solution:".

    0 where there is none behind the thoughts; ``is_open`` is `prm.traces.find_thinking`'s.
    """
    said = find_answer(text, is_open=is_open)
    marks = list(_NEW_SOLUTION.finditer(text[said:]))
    return said + marks[-1].end() if marks else 0


def by_prompt(drafts: Sequence[Draft]) -> list[tuple[Prompt, list[int]]]:
    """The drafts' prompts, each once, with the places of those that share it."""
    places: dict[tuple[str, Prompt], list[int]] = {}
    for place, draft in enumerate(drafts):
        # For a model in this process two problems with the same statement are asked apart; the
        # answers of servers are kept by content, and there they share them.
        places.setdefault((draft.problem.id, draft.prompt), []).append(place)
    return [(prompt, group) for (_, prompt), group in places.items()]
