"""Rollouts by a generator: continue a prefix, check where it ends."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from data_gen.labelers.budgeted import GeneratesSome, tokens_of
from data_gen.models import seed_of
from data_gen.prompting import Strategy
from prm.ledger import Ledger, Metered
from prm.protocols import Chat, ChatGenerator, Generation, Prompt, Rollout, SamplingParams
from prm.records import Problem, Solution
from prm.steps import split_steps
from prm.verifiers import Verifiers, extract_answer
from prm.verifiers.extract import WHOLE
from prm.verifiers.registry import DEFAULT

Asked = tuple[Solution, int, int]
"""A solution, how many of its steps are kept, how many rollouts are wanted."""


class GeneratorRollouts:
    """Satisfies `Rollouts`; all requests of a call go to the generator together.

    A prefix gets fewer rollouts than asked for only where the generator is a `GeneratesSome` whose
    budget has ended. Half a letter (a lone surrogate) in a text becomes U+FFFD.
    """

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
        self.num_calls = 0
        """Calls of the generator so far; who goes on with an earlier start sets it."""
        self._keeps_answers = getattr(generator, "keeps_answers", False)
        self._had: Counter[tuple[str, Prompt]] = Counter()

    async def sample_many(self, requests: Sequence[Asked]) -> list[list[Rollout]]:
        """For each (solution, number of steps kept, n): n rollouts.

        With all steps of a solution kept whose answer is right or wrong, each is that verdict.
        """
        results = self._own_ends(requests)
        rest = [index for index in range(len(requests)) if index not in results]
        prompts = {index: self._prompt(*requests[index][:2]) for index in rest}
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index in rest:
            solution, _, count = requests[index]
            groups[count, self._had_before(solution, prompts[index], count)].append(index)
        for (count, had), indices in sorted(groups.items()):
            self._sort(indices, requests, prompts)
            texts = self._generate([prompts[i] for i in indices], count, had)
            checked = self._check([requests[i][:2] for i in indices], texts)
            results |= dict(zip(indices, checked, strict=True))
        return [results[index] for index in range(len(requests))]

    def chunks(self, requests: Sequence[Asked], max_rows: int) -> list[list[int]]:
        """The places of requests that `sample_many` may be given apart with the same result.

        One call of the generator each, for at most ``max_rows`` texts (but one request at least);
        servers, which keep each answer by themselves, get all requests at once.
        """
        if self._keeps_answers:
            return [list(range(len(requests)))] if requests else []
        prompts = {i: self._prompt(*request[:2]) for i, request in enumerate(requests)}
        groups: dict[int, list[int]] = defaultdict(list)
        for index, (_, _, count) in enumerate(requests):
            groups[count].append(index)
        found = []
        for count, indices in sorted(groups.items()):
            self._sort(indices, requests, prompts)
            size = max(1, max_rows // max(1, count))
            found += [indices[begin : begin + size] for begin in range(0, len(indices), size)]
        return found

    def pass_over(self, solution: Solution, kept: int, count: int) -> None:
        """Count rollouts of a prefix that were had elsewhere: the next ones are others."""
        self._had_before(solution, self._prompt(solution, kept), count)

    def _own_ends(self, requests: Sequence[Asked]) -> dict[int, list[Rollout]]:
        """What needs no continuation: solutions that are whole and whose answer was checked."""
        ends = [
            index
            for index, (solution, kept, _) in enumerate(requests)
            if kept == len(solution.steps) and solution.final_answer is not None
        ]
        verdicts = self.verifiers.check_many(
            (self.problems[solution.problem_id], solution.final_answer)
            for solution, _, _ in (requests[index] for index in ends)
        )
        return {
            index: [Rollout(verdict.label, 0, "")] * requests[index][2]
            for index, verdict in zip(ends, verdicts, strict=True)
            if verdict.label is not None
        }

    def _sort(
        self, indices: list[int], requests: Sequence[Asked], prompts: Mapping[int, Prompt]
    ) -> None:
        """Prompts of like length side by side: less padding in the generator's batches."""
        indices.sort(key=lambda i: (requests[i][1], _length(prompts[i]), i))

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
        asked = list(dict.fromkeys(prompts)) if self._keeps_answers else prompts
        texts: list[list[Generation]] = [[] for _ in asked]
        rest = list(range(len(asked)))
        while rest:
            seed = seed_of(self.seed, "rollouts", had if self._keeps_answers else self.num_calls)
            found, cost = generate_some(self.generator, [asked[i] for i in rest], params, seed)
            self.num_calls += 1
            self.ledger += cost
            if not any(found):
                break
            for i, group in zip(rest, found, strict=True):
                texts[i] = group
            rest = [i for i in rest if not texts[i]]
        if len(asked) == len(prompts):
            return texts
        by_prompt = dict(zip(asked, texts, strict=True))
        return [by_prompt[prompt] for prompt in prompts]

    def _check(
        self, prefixes: list[tuple[Solution, int]], texts: list[list[Generation]]
    ) -> list[list[Rollout]]:
        """The texts that continue each prefix, with what their answers are worth."""
        texts = [[_in_whole_letters(text) for text in group] for group in texts]
        items = [
            (self.problems[solution.problem_id], self._answer(solution.steps[:kept], text.text))
            for (solution, kept), group in zip(prefixes, texts, strict=True)
            for text in group
        ]
        verdicts = iter(self.verifiers.check_many(items))
        return [
            [_rollout(text, None if self._is_cut_off(text) else label) for text, label in row]
            for row in ([(text, next(verdicts).label) for text in group] for group in texts)
        ]

    def _is_cut_off(self, text: Generation) -> bool:
        """Whether the text is a program that ends in its middle: that it fails says nothing."""
        return self.answer_pattern == WHOLE and text.finish_reason == "length"

    def _answer(self, kept: Sequence[str], text: str) -> str | None:
        """The answer of a continuation; a whole solution begins with the steps kept."""
        before = kept if self.answer_pattern == WHOLE else ()
        return extract_answer([*before, *split_steps(text)], self.answer_pattern)


def generate_metered(
    generator: ChatGenerator, prompts: Sequence[Prompt], params: SamplingParams, seed: int
) -> tuple[list[list[Generation]], Ledger]:
    """The texts, and what they cost."""
    before = generator.ledger if isinstance(generator, Metered) else Ledger()
    texts = generator.generate(prompts, params, seed=seed)
    return texts, _cost(generator, before, texts)


def generate_some(
    generator: ChatGenerator, prompts: Sequence[Prompt], params: SamplingParams, seed: int
) -> tuple[list[list[Generation]], Ledger]:
    """The same; a prompt that a budget leaves no room for has no text."""
    if not isinstance(generator, GeneratesSome):
        return generate_metered(generator, prompts, params, seed)
    before = generator.ledger
    return generator.generate_some(prompts, params, seed=seed), generator.ledger - before


def _cost(
    generator: ChatGenerator, before: Ledger, texts: Sequence[Sequence[Generation]]
) -> Ledger:
    return generator.ledger - before if isinstance(generator, Metered) else tokens_of(texts)


def _in_whole_letters(text: Generation) -> Generation:
    """A model may emit half a letter, which no UTF-8 file can hold."""
    whole = text.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if whole == text.text else dataclasses.replace(text, text=whole)


def _rollout(text: Generation, label: bool | None) -> Rollout:
    # What a server could not give is no wrong answer.
    correct = None if text.finish_reason == "error" else label
    return Rollout(correct, text.generated_tokens, text.text, text.finish_reason)


def _length(prompt: Prompt) -> int:
    """Characters in all."""
    if isinstance(prompt, Chat):
        return sum(len(one.content) for one in prompt.messages) + len(prompt.prefix)
    return len(prompt)
