"""Rollouts by a generator: continue a prefix, check where it ends."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from data_gen.models import seed_of
from data_gen.prompting import Strategy
from prm.ledger import Ledger, Metered
from prm.protocols import Chat, ChatGenerator, Generation, Prompt, Rollout, SamplingParams
from prm.records import Problem, Solution
from prm.steps import split_steps
from prm.verifiers import Verifiers, extract_answer
from prm.verifiers.registry import DEFAULT


class GeneratorRollouts:
    """Satisfies `Rollouts`; all requests of a call go to the generator together."""

    def __init__(
        self,
        generator: ChatGenerator,
        problems: Mapping[str, Problem],
        *,
        strategy: Strategy,
        params: SamplingParams,
        answer_pattern: str,
        seed: int,
        verifiers: Verifiers = DEFAULT,
    ) -> None:
        """``seed`` and the number of the call seed the rollouts, but not the prompts.

        So a problem's exemplars are the same in all batches.
        """
        self.generator = generator
        self.problems = problems
        self.strategy = strategy
        self.params = params
        self.answer_pattern = answer_pattern
        self.seed = seed
        self.verifiers = verifiers
        self.ledger = Ledger()
        self._calls = 0

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """For each (solution, number of steps kept, n): n rollouts."""
        by_count: dict[int, list[int]] = defaultdict(list)
        for index, (_, _, count) in enumerate(requests):
            by_count[count].append(index)
        results: list[list[Rollout]] = [[] for _ in requests]
        for count, indices in sorted(by_count.items()):
            # Prompts of like length side by side: less padding in the generator's batches.
            indices.sort(key=lambda i: (requests[i][1], _length(self._prompt(*requests[i][:2])), i))
            texts = self._generate([self._prompt(*requests[i][:2]) for i in indices], count)
            checked = self._check([requests[i][0] for i in indices], texts)
            for index, group in zip(indices, checked, strict=True):
                results[index] = group
        return results

    def _prompt(self, solution: Solution, kept: int) -> Prompt:
        problem = self.problems[solution.problem_id]
        return self.strategy.render(problem, steps=solution.steps[:kept])

    def _generate(self, prompts: list[Prompt], count: int) -> list[list[Generation]]:
        params = dataclasses.replace(self.params, n=count)
        seed = seed_of(self.seed, "rollouts", self._calls)
        self._calls += 1
        meter = self.generator if isinstance(self.generator, Metered) else None
        before = meter.ledger if meter else Ledger()
        texts = self.generator.generate(prompts, params, seed=seed)
        self.ledger += meter.ledger - before if meter else _tokens(texts)
        return texts

    def _check(
        self, solutions: list[Solution], texts: list[list[Generation]]
    ) -> list[list[Rollout]]:
        """The texts that continue each solution, with what their answers are worth."""
        items = [
            (
                self.problems[solution.problem_id],
                extract_answer(split_steps(text.text), self.answer_pattern),
            )
            for solution, group in zip(solutions, texts, strict=True)
            for text in group
        ]
        verdicts = iter(self.verifiers.check_many(items))
        return [
            [Rollout(next(verdicts).label, text.generated_tokens, text.text) for text in group]
            for group in texts
        ]


def _length(prompt: Prompt) -> int:
    """Characters in all."""
    if isinstance(prompt, Chat):
        return sum(len(one.content) for one in prompt.messages) + len(prompt.prefix)
    return len(prompt)


def _tokens(texts: list[list[Generation]]) -> Ledger:
    """Of a model in this process, which reads a prompt once for all its texts."""
    return Ledger(
        sum(group[0].prompt_tokens for group in texts),
        sum(text.generated_tokens for group in texts for text in group),
    )
