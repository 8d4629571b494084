"""Step labels by binary search for the first error (OmegaPRM, arXiv 2406.06592, section 3.2).

Only solutions with a wrong final answer are searched. The prefix of no step is taken for good and
the whole solution is bad; rollouts from the middle say which half holds the first error, and so on:
at most ceil(log2 T) probes for T steps. A prefix is good when more than ``threshold`` of its
rollouts reach the answer; 0 is the published rule, any success. A solution with a right answer
gets no rollouts and is called right throughout: errors that it hides are not found.

As a baseline: ``early_stop=False`` makes all K rollouts of every probe, as published. Early stop
gives the same hard labels for fewer tokens, but success rates that are biased by the stopping.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from data_gen.labelers.prefix import Key, key_of
from data_gen.labelers.probes import ProbeTest, SequentialTest, ThresholdTest
from data_gen.labelers.reading import first_error_of
from data_gen.labelers.tally import Tally, root_counts
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.errors import ConfigError
from prm.protocols import Check, Rollouts
from prm.records import LabelledSolution, Solution, StepLabel, Verdict

Ask = tuple[Solution, int, int]


@dataclasses.dataclass
class _Search:
    """Where the first error of a solution can be: behind ``low`` steps, within ``high``."""

    solution: Solution
    verdict: Verdict
    root: tuple[int, int]
    """Successes and trials of no step at all, known from other solutions."""
    low: int = 0
    high: int = 0
    reason: str = ""
    """Why the search ended; empty while it goes on."""

    @property
    def has_inner_steps(self) -> bool:
        """Whether there is a first error to look for by rollouts."""
        return self.verdict.label is False and len(self.solution.steps) > 1


@dataclasses.dataclass(frozen=True)
class OmegaLabeler:
    """Binary search with ``num_rollouts`` rollouts a probe; all solutions are searched together."""

    num_rollouts: int = 8
    """Rollouts of a probe at most (threshold test)."""
    threshold: float = 0.0
    """A prefix is good when its success rate is above this; 0 = any success."""
    relative: bool = False
    """The threshold is a share of the problem's own success rate (as EpicPRM, arXiv 2503.02382),
    which other solutions of the pool and rollouts of no step make known. Give whole pools."""
    early_stop: bool = True
    """A probe stops where its other rollouts could not change the outcome."""
    round_size: int = 1
    """Rollouts of a probe that are asked for at a time, where it may stop early."""
    test: Literal["threshold", "sequential"] = "threshold"
    """What tells good from bad."""
    sequential: SequentialTest = dataclasses.field(default_factory=SequentialTest)
    """Settings of the sequential test."""
    completer: str = "completer"
    """The model that continues, as it is recorded in the labels."""

    name = "omega"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: a number is out of range, or settings contradict.
        """
        if self.num_rollouts < 1 or self.round_size < 1 or not 0 <= self.threshold < 1:
            raise ConfigError(
                f"num_rollouts {self.num_rollouts} and round_size {self.round_size} should be at "
                f"least 1, threshold {self.threshold} at least 0 and below 1"
            )
        if self.relative and self.test == "sequential":
            raise ConfigError("relative is about the threshold: it needs test: threshold")

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order."""
        searches, tally = wait_for(self._search_all(pool, rollouts, check))
        return [self._read(search, tally) for search in searches]

    async def _search_all(
        self, pool: Sequence[Solution], rollouts: Rollouts, check: Check | None
    ) -> tuple[list[_Search], Tally]:
        """All open searches probe in each round, in one call; a shared prefix is probed once."""
        verdicts, tally = await own_verdicts(pool, rollouts, check), Tally()
        searches = [
            _begin(*row) for row in zip(pool, verdicts, root_counts(pool, verdicts), strict=True)
        ]
        if self.relative:
            await self._roll_roots(searches, tally, rollouts)
        going = searches
        while True:
            steps = [(search, self._advance(search, tally)) for search in going]
            going = [search for search, ask in steps if ask]
            asks: dict[Key, Ask] = {}
            for _, ask in steps:
                if ask:
                    asks.setdefault(key_of(ask[0], ask[1] - 1), ask)
            if not asks:
                return searches, tally
            await tally.ask(asks, rollouts)

    async def _roll_roots(
        self, searches: Sequence[_Search], tally: Tally, rollouts: Rollouts
    ) -> None:
        """Bring the root's trials of all problems with an open search to ``num_rollouts``."""
        asks: dict[Key, Ask] = {}
        for search in searches:
            missing = self.num_rollouts - search.root[1]
            if search.has_inner_steps and missing > 0:
                asks.setdefault(key_of(search.solution, -1), (search.solution, 0, missing))
        if asks:
            await tally.ask(asks, rollouts)

    def _advance(self, search: _Search, tally: Tally) -> Ask | None:
        """Go on as far as the counts lead; what to ask for then, None when the search is over."""
        while not search.reason and search.high - search.low > 1:
            test = self._test(search, tally)
            kept = (search.low + search.high) // 2
            key = key_of(search.solution, kept - 1)
            entry = tally.of(key)
            left = 0 if key in tally.ended or test is None else test.max_trials - tally.had[key]
            good = test.decide(entry.successes, entry.trials, left) if test else None
            if good is None and left:
                return search.solution, kept, self._size(left)
            if good is None:
                is_over = key in tally.ended or key_of(search.solution, -1) in tally.ended
                search.reason = "budget" if is_over else "undecided"
            elif good:
                search.low = kept
            else:
                search.high = kept
        search.reason = search.reason or "first_error_found"
        return None

    def _size(self, left: int) -> int:
        """Rollouts to ask for at once."""
        stops_early = self.early_stop or self.test == "sequential"
        return min(self.round_size, left) if stops_early else left

    def _test(self, search: _Search, tally: Tally) -> ProbeTest | None:
        """The test of this solution's prefixes; None where the root's rate is not known."""
        if self.test == "sequential":
            return self.sequential
        if not self.relative:
            return ThresholdTest(self.num_rollouts, self.threshold)
        successes, trials = self._root(search, tally)
        if not trials:
            return None
        return ThresholdTest(self.num_rollouts, self.threshold * successes / trials)

    def _root(self, search: _Search, tally: Tally) -> tuple[int, int]:
        """Successes and trials of no step, rollouts among them."""
        entry = tally.of(key_of(search.solution, -1))
        return search.root[0] + entry.successes, search.root[1] + entry.trials

    def _read(self, search: _Search, tally: Tally) -> LabelledSolution:
        """The labels of one solution from where its search ended."""
        solution, root = search.solution, self._root(search, tally)
        hard = hard_labels(len(solution.steps), search.low, search.reason)
        labels = tuple(
            dataclasses.replace(self._label(search, step, tally), hard=value)
            for step, value in enumerate(hard)
        )
        tokens = sum(label.tokens for label in labels)
        if self.relative and search.has_inner_steps:
            tokens += tally.of(key_of(solution, -1)).tokens
        return LabelledSolution(
            solution=solution,
            labels=labels,
            first_error=first_error_of(hard),
            verdict=dataclasses.replace(search.verdict, seconds=0.0),
            labeler=self.name,
            stop_reason=search.reason,
            tokens=tokens,
            completer=self.completer,
            root_successes=root[0],
            root_trials=root[1],
            tokens_by_kind={"rollouts": tokens},
        )

    def _label(self, search: _Search, step: int, tally: Tally) -> StepLabel:
        return tally.label(search.solution, step, search.verdict, self.completer)


def hard_labels(num_steps: int, num_good: int, reason: str) -> list[bool | None]:
    """What a search that ended for this reason says: the steps known to be good, the wrong one."""
    if reason == "right_answer":
        return [True] * num_steps
    labels: list[bool | None] = [True] * num_good + [None] * (num_steps - num_good)
    if reason == "first_error_found":
        labels[num_good] = False
    return labels


def _begin(solution: Solution, verdict: Verdict, root: tuple[int, int]) -> _Search:
    """The search of a solution, over at once where there is nothing to search for."""
    reason = "" if solution.steps else "no_steps"
    if solution.steps and verdict.label is not False:
        reason = "right_answer" if verdict.label else "no_verdict"
    return _Search(solution, verdict, root, high=len(solution.steps), reason=reason)
