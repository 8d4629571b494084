"""Step labels by rollouts from every prefix (Math-Shepherd, arXiv 2312.08935, section 3.2).

The share of continuations that still reach the right answer is kept as ``success_rate`` (the
paper's soft estimate). Its hard estimate calls a prefix good when any continuation gets there;
but a wrong step is now and then made good by a second one, so here a single lucky success does
not suffice: ``min_successes`` and ``min_rate`` are asked for, none at all makes a bad prefix, and
what lies between stays undecided. `data_gen.labelers.reading` reads the counts in other ways.
Three savings:

- the sampled solutions are themselves continuations of their prefixes, and are counted;
- rollouts come in rounds, and a prefix that is good needs no more (early stop);
- steps behind the first prefix that is not good are not rolled out: they are unknown (None).

``everywhere`` is the paper's uniform form, without savings: the baseline to compare with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from data_gen.labelers.prefix import Key, PrefixCounts, key_of
from data_gen.labelers.tally import Tally, is_judged, root_counts
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.protocols import Check, Rollouts
from prm.records import LabelledSolution, Solution, StepLabel, Verdict


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
    everywhere: bool = False
    """num_rollouts rollouts at every inner prefix at once, also behind the first error; siblings
    that are counted come on top."""
    completer: str = "completer"
    """The model that continues, as it is recorded in the labels."""

    name = "math_shepherd"

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order."""
        verdicts, tally = wait_for(self._collect(pool, rollouts, check))
        roots = root_counts(pool, verdicts)
        return [
            self._read(solution, verdict, root, tally)
            for solution, verdict, root in zip(pool, verdicts, roots, strict=True)
        ]

    async def _collect(
        self, pool: Sequence[Solution], rollouts: Rollouts, check: Check | None
    ) -> tuple[list[Verdict], Tally]:
        """The verdicts, and the counts of all prefixes, level by level: first steps first."""
        verdicts = await own_verdicts(pool, rollouts, check)
        tally = Tally()
        if self.reuse_siblings:
            tally.add_siblings(pool, verdicts)
        depth = max((len(solution.steps) for solution in pool), default=0)
        for step in range(depth):
            level: dict[Key, tuple[Solution, int]] = {}
            for solution, verdict in zip(pool, verdicts, strict=True):
                if self._is_open(solution, verdict, step, tally):
                    level.setdefault(key_of(solution, step), (solution, step + 1))
            await self._roll(level, tally, rollouts)
        return verdicts, tally

    def _is_open(self, solution: Solution, verdict: Verdict, step: int, tally: Tally) -> bool:
        """Whether rollouts from this step are wanted."""
        if step >= len(solution.steps) or is_judged(solution, step, verdict):
            return False
        if self.everywhere:
            return True
        return all(self._hard(tally.of(key_of(solution, before))) for before in range(step))

    async def _roll(
        self, level: dict[Key, tuple[Solution, int]], tally: Tally, rollouts: Rollouts
    ) -> None:
        """Rounds of rollouts for the prefixes of one level."""
        size = self.num_rollouts if self.everywhere else self.first_round
        while True:
            counts = {key: min(size, self._missing(key, tally)) for key in level}
            asks = {key: (*level[key], n) for key, n in counts.items() if n > 0}
            if not asks:
                return
            await tally.ask(asks, rollouts)
            size *= 2

    def _missing(self, key: Key, tally: Tally) -> int:
        """Rollouts that the prefix may still get; failed checks are paid for, not repeated."""
        entry, stops_early = tally.of(key), self.early_stop and not self.everywhere
        if key in tally.ended or (stops_early and self._is_good(entry)):
            return 0
        return self.num_rollouts - tally.had[key] - (entry.siblings[1] if stops_early else 0)

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

    def _read(
        self, solution: Solution, verdict: Verdict, root: tuple[int, int], tally: Tally
    ) -> LabelledSolution:
        """The labels of one solution from the counts of its prefixes."""
        labels: list[StepLabel] = []
        reason = "all_steps_good" if solution.steps else "no_steps"
        for step in range(len(solution.steps)):
            label = self._label(solution, verdict, step, tally)
            if reason == "first_error_found":
                label = dataclasses.replace(label, hard=None)
            elif label.hard is None and reason == "all_steps_good":
                reason = "budget" if key_of(solution, step) in tally.ended else "undecided"
            elif label.hard is False and reason == "all_steps_good":
                reason = "first_error_found"
            labels.append(label)
        tokens = sum(label.tokens for label in labels)
        return LabelledSolution(
            solution=solution,
            labels=tuple(labels),
            first_error=_first_error(labels, reason),
            verdict=dataclasses.replace(verdict, seconds=0.0),
            labeler=self.name,
            stop_reason=reason,
            tokens=tokens,
            completer=self.completer,
            root_successes=root[0],
            root_trials=root[1],
            tokens_by_kind={"rollouts": tokens},
        )

    def _label(self, solution: Solution, verdict: Verdict, step: int, tally: Tally) -> StepLabel:
        label = tally.label(solution, step, verdict, self.completer)
        if is_judged(solution, step, verdict):
            return label
        return dataclasses.replace(label, hard=self._hard(tally.of(key_of(solution, step))))


def _first_error(labels: Sequence[StepLabel], reason: str) -> dict[str, float]:
    """All the belief on one place where it is known, nothing where it is not."""
    if reason == "first_error_found":
        return {str(next(label.step for label in labels if label.hard is False)): 1.0}
    return {"none": 1.0} if reason == "all_steps_good" else {}
