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

_MAX_UNREAD = 8
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
        # Where the end is not judged one may go on from it: what follows counts as one more step.
        self.lengths = np.array(
            [len(s.steps) + (v.label is None) for s, v in zip(solutions, verdicts, strict=True)]
        )
        self.longest = int(self.lengths.max())
        shape = len(solutions), self.longest + 1
        self.slots = np.full(shape, -1)
        """Which prefix stands in each column; -1 where nothing can be asked."""
        self._solution_of: list[tuple[int, int]] = []
        heads = self._find_prefixes()
        names = {name: i for i, name in enumerate(dict.fromkeys(s.problem_id for s in solutions))}
        problems = np.array([names[one.problem_id] for one in solutions])
        for b, solution in enumerate(solutions):
            if solution.parent is not None:
                # It says nothing of the problem's V_0, and is a problem of its own.
                problems[b], heads[b] = len(names) + b, -1 - b
        self._won = np.zeros(len(self._solution_of))
        self._lost = np.zeros(len(self._solution_of))
        self.ended = np.zeros(len(self._solution_of), bool)
        """No more rollouts can be had."""
        self.unread = np.zeros(len(self._solution_of), bool)
        """Most rollouts cannot be checked: more would only cost."""
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
            first = self.first(b)
            for step in range(len(solution.steps)):
                slot = known.setdefault(key_of(solution, step), len(known))
                if slot == len(self._solution_of):
                    self._solution_of.append((b, step + 1))
                if step == 0:
                    heads[b] = slot
                if step < self.lengths[b] - 1:
                    self.slots[b, first + step + 1] = slot
        return heads

    def _add_siblings(self, won: Array, lost: Array) -> None:
        """Verdicts of others at the longest prefix that is shared with them."""
        through: dict[int, Counter[bool]] = defaultdict(Counter)
        # One with a parent may have been chosen by its end: it does not count.
        heard = [
            None if one.parent is not None else verdict.label
            for one, verdict in zip(self.solutions, self.verdicts, strict=True)
        ]
        for row, label in zip(self.slots, heard, strict=True):
            if label is not None:
                for slot in row[row >= 0]:
                    through[int(slot)][label] += 1
        for b, (row, label) in enumerate(zip(self.slots, heard, strict=True)):
            deeper: Counter[bool] = Counter([label] if label is not None else [])
            for column in np.flatnonzero(row >= 0)[::-1]:
                here = through[int(row[column])]
                won[b, column] = here[True] - deeper[True]
                lost[b, column] = here[False] - deeper[False]
                deeper = here

    def first(self, b: int) -> int:
        """The column in which a solution begins."""
        return int(self.longest - self.lengths[b])

    def use_opinions(self, likelihood: Array) -> None:
        """Take over what other sources say, (B, longest of the steps + 1), aligned at the end."""
        opinion = np.ones_like(self.evidence.opinion)
        for b, row in enumerate(likelihood):
            count, first = len(self.solutions[b].steps), self.first(b)
            opinion[b, first : first + count] = row[len(row) - 1 - count : -1]
            opinion[b, first + count :] = row[-1]
        self.evidence.opinion = opinion

    def is_touched(self, b: int) -> bool:
        """Whether anything is known of the solution beside the pool's habits."""
        counts = self.evidence.won[b].sum() + self.evidence.lost[b].sum()
        return bool(counts or (self.evidence.opinion[b] != 1.0).any())

    def places(self, b: int, belief: Array) -> Array:
        """(T + 1,) of a solution's steps and none, from its row (P' + 1,) of the posterior."""
        begin = len(belief) - 1 - self.lengths[b]
        steps = belief[begin : begin + len(self.solutions[b].steps)]
        return np.append(steps, max(0.0, 1.0 - steps.sum()))

    @property
    def costs(self) -> Array:
        """(P + 1,) share of a whole solution that is left in each column, in steps."""
        return self.longest - np.arange(self.longest + 1.0)

    def request(self, slot: int, count: int) -> tuple[Solution, int, int]:
        """What to ask for ``count`` more rollouts of a prefix."""
        b, kept = self._solution_of[slot]
        return self.solutions[b], kept, count

    def steps_left(self, slot: int) -> int:
        """Steps that a rollout of the prefix is expected to write."""
        b, kept = self._solution_of[slot]
        return int(self.lengths[b]) - kept

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
            unread = self.tally.had[key] - entry.rollouts[1]
            self.unread[slot] = unread >= _MAX_UNREAD and unread > entry.rollouts[1]
            self._won[slot] = entry.rollouts[0]
            self._lost[slot] = entry.rollouts[1] - entry.rollouts[0]
        known = self.slots >= 0
        self.evidence.won = self._sibling_won + np.where(known, self._won[self.slots], 0.0)
        self.evidence.lost = self._sibling_lost + np.where(known, self._lost[self.slots], 0.0)
