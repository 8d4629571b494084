"""Prefixes of solutions and the counts that are known of them.

Many solutions of a problem begin with the same steps. A label belongs to a prefix, so it is
counted once however many solutions share it.
"""

from __future__ import annotations

import dataclasses

from prm.protocols import Rollout
from prm.records import Evidence, Solution
from prm.steps import join_steps

Key = tuple[str, tuple[str, ...]]


def key_of(solution: Solution, step: int) -> Key:
    """The prefix of the solution that ends with this step."""
    return solution.problem_id, solution.steps[: step + 1]


@dataclasses.dataclass
class PrefixCounts:
    """Successes and trials of one prefix, by where they come from."""

    siblings: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    rollouts: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    tokens: int = 0
    right_sibling: str | None = None
    right_rollout: str | None = None

    @property
    def successes(self) -> int:
        """Continuations that reached the right answer."""
        return self.siblings[0] + self.rollouts[0]

    @property
    def trials(self) -> int:
        """Continuations whose end could be checked."""
        return self.siblings[1] + self.rollouts[1]

    def add_sibling(self, solution: Solution, step: int, correct: bool) -> None:
        """Count a sampled solution as a continuation of its own prefix."""
        self.siblings[0] += correct
        self.siblings[1] += 1
        if correct and self.right_sibling is None:
            self.right_sibling = join_steps(solution.steps[step + 1 :])

    def add_rollout(self, rollout: Rollout) -> None:
        """Count a rollout; one that could not be checked costs tokens and counts for nothing."""
        self.tokens += rollout.num_tokens
        if rollout.correct is not None:
            self.rollouts[0] += rollout.correct
            self.rollouts[1] += 1
        if rollout.correct and self.right_rollout is None:
            self.right_rollout = rollout.text

    def evidence(self, completer: str, sampler: str) -> tuple[Evidence, ...]:
        """What is known, one entry for each source that says anything."""
        (good, tried), (won, rolled) = self.siblings, self.rollouts
        entries = []
        if tried:
            entries.append(Evidence("siblings", good, tried, sampler, 0, self.right_sibling))
        if rolled or self.tokens:
            entries.append(
                Evidence("rollouts", won, rolled, completer, self.tokens, self.right_rollout)
            )
        return tuple(entries)
