"""Rollouts by a generator: continue a prefix, check where it ends."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from data_gen.models import seed_of
from data_gen.prompting import prompt_for
from prm.ledger import Ledger
from prm.protocols import Generation, Generator, Rollout, SamplingParams
from prm.records import Problem, Solution
from prm.steps import split_steps
from prm.verifiers import extract_answer, get_verifier


class GeneratorRollouts:
    """Satisfies `Rollouts`; all requests of a call go to the generator together."""

    def __init__(
        self,
        generator: Generator,
        problems: Mapping[str, Problem],
        *,
        template: str,
        params: SamplingParams,
        answer_pattern: str,
        seed: int,
    ) -> None:
        """``seed`` and the number of the call seed the rollouts."""
        self.generator = generator
        self.problems = problems
        self.template = template
        self.params = params
        self.answer_pattern = answer_pattern
        self.seed = seed
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
            indices.sort(key=lambda i: (requests[i][1], len(self._prompt(*requests[i][:2])), i))
            texts = self._generate([self._prompt(*requests[i][:2]) for i in indices], count)
            for index, group in zip(indices, texts, strict=True):
                solution = requests[index][0]
                results[index] = [self._check(solution, text) for text in group]
        return results

    def _prompt(self, solution: Solution, kept: int) -> str:
        statement = self.problems[solution.problem_id].statement
        return prompt_for(self.template, statement, solution.steps[:kept])

    def _generate(self, prompts: list[str], count: int) -> list[list[Generation]]:
        params = dataclasses.replace(self.params, n=count)
        seed = seed_of(self.seed, "rollouts", self._calls)
        self._calls += 1
        texts = self.generator.generate(prompts, params, seed=seed)
        self.ledger += Ledger(
            sum(group[0].prompt_tokens for group in texts),
            sum(text.generated_tokens for group in texts for text in group),
        )
        return texts

    def _check(self, solution: Solution, text: Generation) -> Rollout:
        steps = split_steps(text.text)
        problem = self.problems[solution.problem_id]
        answer = extract_answer(steps, self.answer_pattern)
        verdict = get_verifier(problem.verifier)(answer, problem.reference_answer)
        return Rollout(verdict.label, text.generated_tokens, text.text)
