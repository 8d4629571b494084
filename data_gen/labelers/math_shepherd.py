"""Step labels by rollouts from every prefix (Math-Shepherd, arXiv 2312.08935, section 3.2).

The share of continuations that still reach the right answer is kept as ``success_rate`` (the
paper's soft estimate). Its hard estimate calls a prefix good when any continuation gets there;
but a wrong step is now and then made good by a second one, so here a single lucky success does
not suffice: ``min_successes`` and ``min_rate`` are asked for, none at all makes a bad prefix, and
what lies between stays undecided. Three savings:

- the sampled solutions are themselves continuations of their prefixes, and are counted;
- rollouts come in rounds, and a prefix that is good needs no more (early stop);
- steps behind the first prefix that is not good are not rolled out: they are unknown (None).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from data_gen.labelers.prefix import Key, PrefixCounts, key_of
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.protocols import Check, Rollouts
from prm.records import Evidence, LabelledSolution, Solution, StepLabel, Verdict

Counts = dict[Key, PrefixCounts]


@dataclasses.dataclass(frozen=True)
class MathShepherdLabeler:
    """Rollouts at every prefix until it is good, or has had ``num_rollouts`` trials."""

    num_rollouts: int = 8
    """Trials of a prefix at most, counted siblings among them."""
    first_round: int = 2
    """Rollouts in the first round; each later round doubles."""
    min_successes: int = 2
    """A prefix is good with at least so many successes..."""
    min_rate: float = 0.2
    """...and at least this share of its trials; with none it is bad, else undecided."""
    early_stop: bool = True
    """Stop when a prefix is good; without it every prefix gets num_rollouts rollouts."""
    reuse_siblings: bool = True
    """Count the sampled solutions as continuations of their own prefixes."""
    completer: str = "completer"
    """The model that continues, as it is recorded in the labels."""

    name = "math_shepherd"

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order."""
        verdicts, counts = wait_for(self._collect(pool, rollouts, check))
        return [
            self._read(solution, verdict, counts)
            for solution, verdict in zip(pool, verdicts, strict=True)
        ]

    async def _collect(
        self, pool: Sequence[Solution], rollouts: Rollouts, check: Check | None
    ) -> tuple[list[Verdict], Counts]:
        """The verdicts, and the counts of all prefixes, level by level: first steps first."""
        verdicts = await own_verdicts(pool, rollouts, check)
        counts = self._siblings(pool, verdicts)
        depth = max((len(solution.steps) for solution in pool), default=0)
        for step in range(depth):
            level: dict[Key, tuple[Solution, int]] = {}
            for solution, verdict in zip(pool, verdicts, strict=True):
                if self._is_open(solution, verdict, step, counts):
                    level.setdefault(key_of(solution, step), (solution, step + 1))
            await self._roll(level, counts, rollouts)
        return verdicts, counts

    def _siblings(self, pool: Sequence[Solution], verdicts: list[Verdict]) -> Counts:
        counts: Counts = {}
        for solution, verdict in zip(pool, verdicts, strict=True):
            for step in range(len(solution.steps)):
                entry = counts.setdefault(key_of(solution, step), PrefixCounts())
                # The last step of a finished solution is judged by the verdict, not by itself.
                inner = step < len(solution.steps) - 1
                if self.reuse_siblings and inner and verdict.label is not None:
                    entry.add_sibling(solution, step, verdict.label)
        return counts

    def _is_open(self, solution: Solution, verdict: Verdict, step: int, counts: Counts) -> bool:
        """Whether rollouts from this step would tell anything."""
        if step >= len(solution.steps) or self._is_finished(solution, verdict, step):
            return False
        return all(self._hard(counts[key_of(solution, before)]) for before in range(step))

    def _is_finished(self, solution: Solution, verdict: Verdict, step: int) -> bool:
        return step == len(solution.steps) - 1 and verdict.label is not None

    async def _roll(
        self, level: dict[Key, tuple[Solution, int]], counts: Counts, rollouts: Rollouts
    ) -> None:
        """Rounds of rollouts for the prefixes of one level."""
        size, spent = self.first_round, dict.fromkeys(level, 0)
        while True:
            asks = {key: min(size, self._missing(counts[key], spent[key])) for key in level}
            asks = {key: n for key, n in asks.items() if n > 0}
            if not asks:
                return
            results = await rollouts.sample_many([(*level[key], n) for key, n in asks.items()])
            for key, group in zip(asks, results, strict=True):
                spent[key] += len(group)
                for rollout in group:
                    counts[key].add_rollout(rollout)
            size *= 2

    def _missing(self, entry: PrefixCounts, spent: int) -> int:
        """Rollouts that the prefix may still get; failed checks are paid for, not repeated."""
        if self.early_stop and self._is_good(entry):
            return 0
        given = spent if not self.early_stop else spent + entry.siblings[1]
        return self.num_rollouts - given

    def _hard(self, entry: PrefixCounts) -> bool | None:
        """Good, bad, or not known."""
        if self._is_good(entry):
            return True
        tried = entry.trials >= max(1, self.num_rollouts // 2)
        return False if tried and not entry.successes else None

    def _is_good(self, entry: PrefixCounts) -> bool:
        return (
            entry.successes >= self.min_successes
            and entry.successes >= self.min_rate * entry.trials
        )

    def _read(self, solution: Solution, verdict: Verdict, counts: Counts) -> LabelledSolution:
        """The labels of one solution from the counts of its prefixes."""
        labels: list[StepLabel] = []
        reason = "all_steps_good" if solution.steps else "no_steps"
        for step in range(len(solution.steps)):
            label = self._label(solution, verdict, step, counts)
            if reason == "first_error_found":
                label = dataclasses.replace(label, hard=None)
            elif label.hard is None:
                reason = "undecided"
            elif label.hard is False and reason == "all_steps_good":
                reason = "first_error_found"
            labels.append(label)
        return LabelledSolution(
            solution=solution,
            labels=tuple(labels),
            first_error=_first_error(labels, reason),
            verdict=dataclasses.replace(verdict, seconds=0.0),
            labeler=self.name,
            stop_reason=reason,
            tokens=sum(label.tokens for label in labels),
        )

    def _label(self, solution: Solution, verdict: Verdict, step: int, counts: Counts) -> StepLabel:
        if self._is_finished(solution, verdict, step):
            right = bool(verdict.label)
            own = Evidence("verdict", int(right), 1, verdict.backend)
            return StepLabel(step, int(right), 1, float(right), None, right, (own,))
        entry = counts[key_of(solution, step)]
        return StepLabel(
            step=step,
            successes=entry.successes,
            trials=entry.trials,
            success_rate=entry.successes / entry.trials if entry.trials else None,
            prefix_correct=None,
            hard=self._hard(entry),
            evidence=entry.evidence(self.completer, solution.model),
            tokens=entry.tokens,
        )


def _first_error(labels: Sequence[StepLabel], reason: str) -> dict[str, float]:
    """All the belief on one place where it is known, nothing where it is not."""
    if reason == "first_error_found":
        return {str(next(label.step for label in labels if label.hard is False)): 1.0}
    return {"none": 1.0} if reason == "all_steps_good" else {}
