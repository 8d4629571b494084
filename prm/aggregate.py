"""From the scores of the steps to one score of the solution. Standard library only."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Sequence
from typing import Literal

from prm.errors import ConfigError, EncodingError

Aggregate = Literal["min", "prod", "last", "mean"]
AGGREGATES: tuple[Aggregate, ...] = typing.get_args(Aggregate)

_FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "prod": math.prod,
    "last": lambda scores: scores[-1],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}


def aggregate(scores: Sequence[float], how: Aggregate = "min") -> float:
    """Reduce the step scores of one solution, in step order, to one score.

    >>> aggregate([0.9, 0.5, 0.8], "min")
    0.5

    Raises:
        ConfigError: ``how`` is none of `AGGREGATES`.
        EncodingError: there is no score, or one is NaN.
    """
    if how not in _FUNCTIONS:
        raise ConfigError(f"unknown aggregate {how!r}; choose one of {', '.join(AGGREGATES)}")
    if not scores:
        raise EncodingError("a solution without steps has no score; leave it out before scoring")
    for step, score in enumerate(scores):
        if math.isnan(score):
            raise EncodingError(f"the score of step {step} is NaN; look at the scorer's output")
    return float(_FUNCTIONS[how](scores))
