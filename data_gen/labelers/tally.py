"""Rollouts of a pool's prefixes: what they said, how many were had, which have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from data_gen.labelers.prefix import Key, PrefixCounts, key_of
from prm.protocols import Rollouts
from prm.records import Evidence, Solution, StepLabel, Verdict


class Tally:
    """Counts by prefix. A prefix that solutions share is asked for once and counted once."""

    def __init__(self) -> None:
        """Nothing is known."""
        self.counts: dict[Key, PrefixCounts] = {}
        self.had: Counter[Key] = Counter()
        """Rollouts that came, those that could not be checked among them."""
        self.ended: set[Key] = set()
        """Prefixes that gave fewer rollouts than asked for: no more of them can be had."""

    def add_siblings(self, pool: Sequence[Solution], verdicts: Sequence[Verdict]) -> None:
        """Count the solutions as continuations of their own prefixes.

        One with a parent was made from another one, perhaps chosen by its end: it does not count.
        """
        for solution, verdict in zip(pool, verdicts, strict=True):
            if verdict.label is None or solution.parent is not None:
                continue
            # The last step of a finished solution is judged by the verdict, not by itself.
            for step in range(len(solution.steps) - 1):
                self.of(key_of(solution, step)).add_sibling(solution, step, verdict.label)

    def of(self, key: Key) -> PrefixCounts:
        """The counts of the prefix; none at first."""
        return self.counts.setdefault(key, PrefixCounts())

    async def ask(self, asks: Mapping[Key, tuple[Solution, int, int]], rollouts: Rollouts) -> None:
        """Get (solution, number of steps kept, n) rollouts of each prefix, all in one call."""
        results = await rollouts.sample_many(list(asks.values()))
        for (key, (_, _, wanted)), group in zip(asks.items(), results, strict=True):
            entry = self.of(key)
            self.had[key] += len(group)
            if len(group) < wanted:
                self.ended.add(key)
            for rollout in group:
                entry.add_rollout(rollout)

    def label(self, solution: Solution, step: int, verdict: Verdict, completer: str) -> StepLabel:
        """What is known of a step, without a hard label but where the verdict gives one."""
        if is_judged(solution, step, verdict):
            right = bool(verdict.label)
            own = Evidence("verdict", int(right), 1, verdict.backend)
            return StepLabel(step, int(right), 1, float(right), None, right, (own,))
        entry = self.counts.get(key_of(solution, step), PrefixCounts())
        return StepLabel(
            step=step,
            successes=entry.successes,
            trials=entry.trials,
            success_rate=entry.successes / entry.trials if entry.trials else None,
            prefix_correct=None,
            hard=None,
            evidence=entry.evidence(completer, solution.model),
            tokens=entry.tokens,
        )


def is_judged(solution: Solution, step: int, verdict: Verdict) -> bool:
    """Whether the verdict says all about this step: it is the last one."""
    return step == len(solution.steps) - 1 and verdict.label is not None


def root_counts(pool: Sequence[Solution], verdicts: Sequence[Verdict]) -> list[tuple[int, int]]:
    """(successes, trials) of the problem, for each solution by the others of the pool.

    A solution with a parent does not begin at the root: it saw another one, or continues it.
    """
    labels = [
        None if solution.parent is not None else verdict.label
        for solution, verdict in zip(pool, verdicts, strict=True)
    ]
    won, tried = Counter[str](), Counter[str]()
    for solution, label in zip(pool, labels, strict=True):
        won[solution.problem_id] += label is True
        tried[solution.problem_id] += label is not None
    return [
        (won[one.problem_id] - (label is True), tried[one.problem_id] - (label is not None))
        for one, label in zip(pool, labels, strict=True)
    ]
