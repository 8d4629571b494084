"""Ways to choose an answer from samples, measured on the same samples; and which of ours to use.

Method names are those of `prm.evaluation.curves`: ``pass``, ``random``, ``majority``,
``best_of_n:SCORE``, ``weighted_vote:SCORE``, where SCORE is ``prm-min`` (the PRM's step scores by
that aggregate), ``critic``, ``logprob-sum`` or ``logprob-mean`` (of the policy).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prm.aggregate import AGGREGATES, aggregate
from prm.errors import ConfigError
from prm.evaluation.curves import Curves, SampledProblem, accuracy_curves
from prm.evaluation.samples import ProblemSamples

Scores = Mapping[str, Sequence[float] | None]
RIVALS = tuple(
    f"{role}:logprob-{form}" for role in ("best_of_n", "weighted_vote") for form in ("sum", "mean")
)
OURS = tuple(f"{role}:prm-{how}" for role in ("best_of_n", "weighted_vote") for how in AGGREGATES)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What was fixed on the selection split before the test split was scored."""

    method: str
    rival: str
    aggregate: str
    thresholds: tuple[float, ...]
    """Of the PRMs, one for each training seed."""
    critic_threshold: float
    logistic_threshold: float
    random_threshold: float
    split: str
    models: tuple[str, ...]
    """Hashes of the PRMs that were compared: the choice is valid for them only."""
    accuracy: dict[str, float]
    """Accuracy of every method on that split, at the largest n."""


def curves_of(
    samples: Sequence[ProblemSamples], prm: Scores, critic: Scores | None, ns: Sequence[int]
) -> Curves:
    """Accuracy of all methods for each n."""
    return accuracy_curves([_row(group, prm, critic, max(ns)) for group in samples], ns=ns)


def _row(group: ProblemSamples, prm: Scores, critic: Scores | None, n: int) -> SampledProblem:
    """A problem with its samples; those that had no step at all stand there without an answer."""
    empty = max(0, n - len(group.solutions))
    scores = _solution_scores(group, prm, critic)
    return SampledProblem(
        [*group.answers, *[None] * empty],
        [*group.right, *[False] * empty],
        {name: [*values, *[0.0] * empty] for name, values in scores.items()},
    )


def average(curves: Sequence[Curves]) -> Curves:
    """The mean over training seeds of each problem's accuracy."""
    values = {key: np.mean([one.values[key] for one in curves], axis=0) for key in curves[0].values}
    return dataclasses.replace(curves[0], values=values)


def best(curves: Curves, methods: Sequence[str]) -> str:
    """The most accurate of the methods at the largest n; the first one of equals."""
    return max(methods, key=lambda method: accuracy(curves, method))


def accuracy(curves: Curves, method: str) -> float:
    """Mean accuracy at the largest n."""
    return float(curves.values[method, curves.ns[-1]].mean())


def gap_closed(curves: Curves, method: str) -> float | None:
    """The share of the gap from majority vote to pass@n that a method closes."""
    floor, ceiling = accuracy(curves, "majority"), accuracy(curves, "pass")
    return (accuracy(curves, method) - floor) / (ceiling - floor) if ceiling > floor else None


def check_choice(choice: Choice, curves: Curves) -> None:
    """Refuse a choice that names a method which is not measured here.

    Raises:
        ConfigError: it does.
    """
    for method in (choice.method, choice.rival):
        if method not in curves.methods:
            raise ConfigError(f"the choice names {method!r}; measured are {list(curves.methods)}")


def check_models(choice: Choice, models: Sequence[str]) -> None:
    """Refuse a choice that was made for other models.

    Raises:
        ConfigError: it was.
    """
    if choice.models != tuple(models):
        raise ConfigError(
            f"the choice was made for the PRMs {list(choice.models)}, these are {list(models)}: "
            "run `prm evaluate --split selection` with these first"
        )


def _solution_scores(
    group: ProblemSamples, prm: Scores, critic: Scores | None
) -> dict[str, list[float]]:
    """A score in [0, 1] for each solution, by each scorer."""
    scores: dict[str, list[float]] = {}
    for how in AGGREGATES:
        # A solution that could not be scored has nothing that speaks for it.
        scores[f"prm-{how}"] = [_aggregate(prm[s.id], how) for s in group.solutions]
    if critic is not None:
        scores["critic"] = [_aggregate(critic[s.id], "min") for s in group.solutions]
    logprobs: list[Any] = [s.logprob for s in group.solutions]
    if None not in logprobs:
        lengths = [max(1, s.usage.generated_tokens) for s in group.solutions]
        scores["logprob-sum"] = _likelihoods(logprobs)
        scores["logprob-mean"] = _likelihoods(
            [value / length for value, length in zip(logprobs, lengths, strict=True)]
        )
    return scores


def _likelihoods(logprobs: Sequence[float]) -> list[float]:
    """Likelihoods relative to the largest: long solutions would all be 0 otherwise."""
    top = max(logprobs, default=0.0)
    return [math.exp(value - top) for value in logprobs]


def _aggregate(scores: Sequence[float] | None, how: Any) -> float:
    return 0.0 if scores is None else aggregate(scores, how)
