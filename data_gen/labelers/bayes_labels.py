"""Labels from the posteriors of a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_gen.labelers.bayes_choice import success_rates
from data_gen.labelers.bayes_model import LEVELS, Array
from data_gen.labelers.bayes_pool import Pool
from data_gen.labelers.bayes_reading import PoolReader
from data_gen.labelers.tally import is_judged, root_counts
from prm.records import LabelledSolution, Opinion, Solution, StepLabel, Verdict

if TYPE_CHECKING:
    from data_gen.labelers.bayes import BayesLabeler


def to_labels(
    labeler: BayesLabeler,
    pool: Pool,
    reader: PoolReader,
    reasons: Sequence[str],
    opinions: Mapping[str, Sequence[Opinion]],
) -> list[LabelledSolution]:
    """One label record a solution of the pool, in its order."""
    found: list[LabelledSolution | None] = [None] * len(pool.solutions)
    counts = root_counts(pool.solutions, pool.verdicts)
    for part, post in reader.read(np.arange(len(found)), 1):
        rates = success_rates(post)
        for row, b in enumerate(part):
            solution, verdict = pool.solutions[b], pool.verdicts[b]
            places = pool.places(int(b), post.first_error[row])
            begin = post.first_error.shape[1] - 1 - pool.lengths[b]
            labels = _steps(labeler, pool, int(b), places, rates[row, begin:])
            tokens = sum(label.tokens for label in labels)
            said = tuple(opinions.get(solution.id, ()))
            by_kind = {"rollouts": tokens}
            for opinion in said:
                by_kind[opinion.kind] = by_kind.get(opinion.kind, 0) + opinion.tokens
            found[b] = LabelledSolution(
                solution=solution,
                labels=labels,
                first_error=_named(places),
                verdict=verdict,
                labeler=labeler.name,
                stop_reason=reasons[b],
                tokens=sum(by_kind.values()),
                completer=labeler.completer,
                root_successes=counts[b][0],
                root_trials=counts[b][1],
                opinions=said,
                tokens_by_kind=by_kind,
                decoder=reader.hyper.name,
            )
    return [one for one in found if one is not None]


def without_steps(solution: Solution, verdict: Verdict, labeler: BayesLabeler) -> LabelledSolution:
    """A solution of no steps has no labels."""
    return LabelledSolution(
        solution, (), {}, verdict, labeler.name, "no_steps", completer=labeler.completer
    )


def _named(places: Array) -> dict[str, float]:
    """P(first error) by step, and none."""
    steps = {str(t): float(p) for t, p in enumerate(places[:-1])}
    return {"none": float(places[-1])} | steps


def _steps(
    labeler: BayesLabeler, pool: Pool, b: int, places: Array, rates: Array
) -> tuple[StepLabel, ...]:
    """``rates``: by the number of steps kept."""
    solution, verdict = pool.solutions[b], pool.verdicts[b]
    intact = 1.0 - np.cumsum(places[:-1])
    hard = _hard(places, intact, labeler.sure)
    counts = [pool.tally.label(solution, t, verdict, labeler.completer) for t in range(len(intact))]
    if verdict.label is None and not pool.is_touched(b):
        # The prior alone is no label.
        hard = [None] * len(intact)
    labels = []
    for step, counted in enumerate(counts):
        rate = counted.success_rate
        if not is_judged(solution, step, verdict):
            rate = float(np.clip(rates[step + 1], LEVELS[-1] / 10, 1.0))
        labels.append(
            StepLabel(
                step=step,
                successes=counted.successes,
                trials=counted.trials,
                success_rate=rate,
                prefix_correct=float(np.clip(intact[step], 0.0, 1.0)),
                hard=hard[step],
                evidence=counted.evidence,
                tokens=counted.tokens,
            )
        )
    return tuple(labels)


def _hard(belief: Array, intact: Array, sure: float) -> list[bool | None]:
    """True as far as the posterior is sure, False where it is sure of the first error."""
    hard: list[bool | None] = [True if p >= sure else None for p in intact]
    place = int(belief.argmax())
    if place < len(intact) and belief[place] >= sure:
        hard = [True] * place + [False] + [None] * (len(intact) - place - 1)
    return hard
