"""Rollouts whose outcome depends on the prefix alone, so that every labeler sees the same ones."""

import math
import random
from collections import Counter

from prm.protocols import Rollout

TOKENS = 10


class RolloutsByPrefix:
    """The n-th rollout of a prefix is the same whoever asks, in whatever order and company.

    ``rate(solution, kept)`` is the chance of success, ``unreadable`` that of no verdict. After
    ``budget`` rollouts there are no more. With all steps kept it is the solution's own verdict.
    """

    def __init__(self, rate, *, seed=0, budget=math.inf, unreadable=0.0):
        self.rate, self.seed, self.budget, self.unreadable = rate, seed, budget, unreadable
        self.had = Counter()
        self.calls = []

    async def sample_many(self, requests):
        self.calls.append([(solution.steps[:kept], n) for solution, kept, n in requests])
        return [self._group(*request) for request in requests]

    def _group(self, solution, kept, n):
        if kept == len(solution.steps) and solution.final_answer is not None:
            return [Rollout(solution.final_answer == "right", 0)] * n
        group = []
        while len(group) < n and self.budget > 0:
            self.budget -= 1
            group.append(self._draw(solution, kept))
        return group

    def _draw(self, solution, kept):
        key = solution.problem_id, solution.steps[:kept]
        source = random.Random(f"{self.seed} {key} {self.had[key]}")
        self.had[key] += 1
        if source.random() < self.unreadable:
            return Rollout(None, TOKENS, "?")
        return Rollout(source.random() < self.rate(solution, kept), TOKENS, "some text")

    @property
    def num_tokens(self):
        return TOKENS * sum(self.had.values())

    @property
    def asked(self):
        """Prefixes that were asked for, and how many rollouts of each."""
        found = Counter()
        for call in self.calls:
            for steps, n in call:
                found[steps] += n
        return found
