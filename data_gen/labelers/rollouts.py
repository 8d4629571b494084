"""Rollouts by a generator: continue a prefix, check where it ends."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from data_gen.models import seed_of
from data_gen.prompting import Strategy
from prm.ledger import Ledger, Metered
from prm.protocols import Chat, ChatGenerator, Generation, Prompt, Rollout, SamplingParams
from prm.records import Problem, Solution
from prm.steps import split_steps
from prm.verifiers import Verifiers, extract_answer
from prm.verifiers.extract import WHOLE
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

        So a problem's exemplars are the same in all batches. With ``keeps_answers`` the generator
        finds an answer by prompt and seed: then rollouts are seeded by how many of their prompt
        were had before, and other batches or shards find what was paid for.
        """
        self.generator = generator
        self.problems = problems
        self.strategy = strategy
        self.params = params
        self.answer_pattern = answer_pattern
        self.seed = seed
        self.verifiers = verifiers
        self.ledger = Ledger()
        self._keeps_answers = getattr(generator, "keeps_answers", False)
        self._calls = 0
        self._had: Counter[tuple[str, Prompt]] = Counter()

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """For each (solution, number of steps kept, n): n rollouts."""
        prompts = [self._prompt(solution, kept) for solution, kept, _ in requests]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, (solution, _, count) in enumerate(requests):
            groups[count, self._had_before(solution, prompts[index], count)].append(index)
        results: list[list[Rollout]] = [[] for _ in requests]
        for (count, had), indices in sorted(groups.items()):
            # Prompts of like length side by side: less padding in the generator's batches.
            indices.sort(key=lambda i: (requests[i][1], _length(prompts[i]), i))
            texts = self._generate([prompts[i] for i in indices], count, had)
            checked = self._check([requests[i][:2] for i in indices], texts)
            for index, group in zip(indices, checked, strict=True):
                results[index] = group
        return results

    def _had_before(self, solution: Solution, prompt: Prompt, count: int) -> int:
        """Rollouts of the problem's prompt before these; 0 where that decides nothing."""
        if not self._keeps_answers:
            return 0
        key = solution.problem_id, prompt
        self._had[key] += count
        return self._had[key] - count

    def _prompt(self, solution: Solution, kept: int) -> Prompt:
        problem = self.problems[solution.problem_id]
        return self.strategy.render(problem, steps=solution.steps[:kept])

    def _generate(self, prompts: list[Prompt], count: int, had: int) -> list[list[Generation]]:
        """The texts; with kept answers, problems of the same words share them."""
        params = dataclasses.replace(self.params, n=count)
        seed = seed_of(self.seed, "rollouts", had if self._keeps_answers else self._calls)
        self._calls += 1
        asked = list(dict.fromkeys(prompts)) if self._keeps_answers else prompts
        texts, cost = generate_metered(self.generator, asked, params, seed)
        self.ledger += cost
        if len(asked) == len(prompts):
            return texts
        by_prompt = dict(zip(asked, texts, strict=True))
        return [by_prompt[prompt] for prompt in prompts]

    def _check(
        self, prefixes: list[tuple[Solution, int]], texts: list[list[Generation]]
    ) -> list[list[Rollout]]:
        """The texts that continue each prefix, with what their answers are worth."""
        items = [
            (self.problems[solution.problem_id], self._answer(solution.steps[:kept], text.text))
            for (solution, kept), group in zip(prefixes, texts, strict=True)
            for text in group
        ]
        verdicts = iter(self.verifiers.check_many(items))
        return [
            [Rollout(next(verdicts).label, text.generated_tokens, text.text) for text in group]
            for group in texts
        ]

    def _answer(self, kept: Sequence[str], text: str) -> str | None:
        """The answer of a continuation; a whole solution begins with the steps kept."""
        before = kept if self.answer_pattern == WHOLE else ()
        return extract_answer([*before, *split_steps(text)], self.answer_pattern)


def generate_metered(
    generator: ChatGenerator, prompts: Sequence[Prompt], params: SamplingParams, seed: int
) -> tuple[list[list[Generation]], Ledger]:
    """The texts, and what they cost."""
    meter = generator if isinstance(generator, Metered) else None
    before = meter.ledger if meter else Ledger()
    texts = generator.generate(prompts, params, seed=seed)
    return texts, meter.ledger - before if meter else _tokens(texts)


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
