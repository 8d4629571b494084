"""A pool of solutions as the arrays of the Bayesian labeler, and back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from data_gen.labelers.bayes_model import RIGHT, UNKNOWN, WRONG, Array
from data_gen.labelers.bayes_posterior import Evidence, Groups
from data_gen.labelers.prefix import Key, key_of
from data_gen.labelers.tally import Tally
from prm.records import LabelledSolution, Solution, Verdict

_CODES = {True: RIGHT, False: WRONG, None: UNKNOWN}


class Pool:
    """Solutions with at least one step, their verdicts, and the counts of their prefixes.

    Solutions that share a prefix share its rollouts. The verdict of another solution is one
    more rollout of the longest prefix that it shares with this one.
    """

    def __init__(self, solutions: Sequence[Solution], verdicts: Sequence[Verdict]) -> None:
        """Nothing is known but the verdicts."""
        self.solutions = solutions
        self.verdicts = verdicts
        self.tally = Tally()
        self.lengths = np.array([len(one.steps) for one in solutions])
        self.longest = int(self.lengths.max())
        shape = len(solutions), self.longest + 1
        self.slots = np.full(shape, -1)
        """Which prefix stands in each column; -1 where nothing can be asked."""
        self._solution_of: list[tuple[int, int]] = []
        heads = self._find_prefixes()
        names = {name: i for i, name in enumerate(dict.fromkeys(s.problem_id for s in solutions))}
        problems = np.array([names[one.problem_id] for one in solutions])
        self._won = np.zeros(len(self._solution_of))
        self._lost = np.zeros(len(self._solution_of))
        self.ended = np.zeros(len(self._solution_of), bool)
        won, lost = np.zeros(shape), np.zeros(shape)
        self._add_siblings(won, lost)
        self._sibling_won, self._sibling_lost = won, lost
        codes = np.array([_CODES[verdict.label] for verdict in verdicts])
        self.evidence = Evidence(
            self.lengths, codes, Groups(problems, heads), won.copy(), lost.copy(), np.ones(shape)
        )

    def _find_prefixes(self) -> Array:
        """Number the inner prefixes; gives the number of each solution's first one."""
        known: dict[tuple[str, tuple[str, ...]], int] = {}
        heads = np.zeros(len(self.solutions), int)
        for b, solution in enumerate(self.solutions):
            length = len(solution.steps)
            for step in range(length):
                slot = known.setdefault(key_of(solution, step), len(known))
                if slot == len(self._solution_of):
                    self._solution_of.append((b, step + 1))
                if step == 0:
                    heads[b] = slot
                if step < length - 1 or self.verdicts[b].label is None:
                    self.slots[b, self.longest - length + step + 1] = slot
        return heads

    def _add_siblings(self, won: Array, lost: Array) -> None:
        """Verdicts of others at the longest prefix that is shared with them."""
        through: dict[int, Counter[bool]] = defaultdict(Counter)
        for row, verdict in zip(self.slots, self.verdicts, strict=True):
            if verdict.label is not None:
                for slot in row[row >= 0]:
                    through[int(slot)][verdict.label] += 1
        for b, (row, verdict) in enumerate(zip(self.slots, self.verdicts, strict=True)):
            deeper: Counter[bool] = Counter([verdict.label] if verdict.label is not None else [])
            for column in np.flatnonzero(row >= 0)[::-1]:
                here = through[int(row[column])]
                won[b, column] = here[True] - deeper[True]
                lost[b, column] = here[False] - deeper[False]
                deeper = here

    @property
    def costs(self) -> Array:
        """(P + 1,) share of a whole solution that is left in each column, in steps."""
        return self.longest - np.arange(self.longest + 1.0)

    def request(self, slot: int, count: int) -> tuple[Solution, int, int]:
        """What to ask for ``count`` more rollouts of a prefix."""
        b, kept = self._solution_of[slot]
        return self.solutions[b], kept, count

    def key(self, slot: int) -> Key:
        """The prefix itself."""
        b, kept = self._solution_of[slot]
        return key_of(self.solutions[b], kept - 1)

    def take_over(self, labelled: Sequence[LabelledSolution]) -> None:
        """Put the rollout counts of these labels, one for each solution, into the tally."""
        for one in labelled:
            for label in one.labels:
                entry = self.tally.of(key_of(one.solution, label.step))
                for evidence in label.evidence:
                    if evidence.kind == "rollouts":
                        entry.rollouts = [evidence.successes, evidence.trials]
                        entry.tokens, entry.right_rollout = (
                            evidence.tokens,
                            evidence.right_continuation,
                        )
        self.refresh(range(len(self._solution_of)))

    def refresh(self, slots: Iterable[int]) -> None:
        """Take over what the tally knows of these prefixes."""
        for slot in slots:
            key = self.key(slot)
            entry = self.tally.of(key)
            self.ended[slot] = key in self.tally.ended
            self._won[slot] = entry.rollouts[0]
            self._lost[slot] = entry.rollouts[1] - entry.rollouts[0]
        known = self.slots >= 0
        self.evidence.won = self._sibling_won + np.where(known, self._won[self.slots], 0.0)
        self.evidence.lost = self._sibling_lost + np.where(known, self._lost[self.slots], 0.0)
