"""Majority vote and score-weighted vote over the final answers (compared as strings).

The same three layers as best-of-n: `majority_vote` and `weighted_vote` run a generator,
`choose_by_vote` works on candidates, `vote` on plain answers and weights; `expected_vote` measures.
A sample without an answer costs tokens but does not vote. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

from prm.aggregate import Aggregate
from prm.errors import EncodingError
from prm.protocols import Generator, StepScorer
from prm.search.best_of_n import (
    Candidate,
    Sampling,
    SearchResult,
    check_flags,
    check_scores,
    sample_candidates,
    score_candidates,
    scores_of,
    select_best,
)

TIE_TOLERANCE = 1e-12
"""Sums of weights that differ by less than this share of the larger are tied: only rounding
tells 0.1 + 0.2 from 0.3."""


def majority_vote(problem: str, generator: Generator, **sampling: Unpack[Sampling]) -> SearchResult:
    """Write n solutions and choose the most frequent answer; of equals the one seen first.

    ``sampling`` as in `best_of_n`: ``parse``, ``n`` = 8, ``params``, ``seed`` = 0, ``prompt``.
    """
    candidates, prompt_tokens = sample_candidates(problem, generator, **sampling)
    return choose_by_vote(candidates, weighted=False, prompt_tokens=prompt_tokens)


def weighted_vote(
    problem: str,
    generator: Generator,
    scorer: StepScorer,
    *,
    aggregate: Aggregate = "min",
    **sampling: Unpack[Sampling],
) -> SearchResult:
    """Write n solutions and choose the answer whose solutions' scores sum to most.

    ``sampling`` as in `best_of_n`: ``parse``, ``n`` = 8, ``params``, ``seed`` = 0, ``prompt``.
    """
    candidates, prompt_tokens = sample_candidates(problem, generator, **sampling)
    scored = score_candidates(problem, candidates, scorer, aggregate)
    return choose_by_vote(scored, weighted=True, prompt_tokens=prompt_tokens)


def choose_by_vote(
    candidates: Sequence[Candidate], *, weighted: bool, prompt_tokens: int = 0
) -> SearchResult:
    """Vote among candidates that a user already has.

    ``chosen`` is the best-scored candidate with the winning answer (without scores the first).

    Raises:
        EncodingError: a weighted vote where a candidate has an answer but no score, or where a
            score is negative or not finite.
    """
    answers = [candidate.answer for candidate in candidates]
    weights = scores_of(candidates) if weighted else None
    answer = vote(answers, weights)
    winners = [a if a == answer else None for a in answers]
    chosen = select_best(winners, weights or [0.0] * len(answers))
    return SearchResult(answer, chosen, tuple(candidates), prompt_tokens)


def vote(answers: Sequence[str | None], weights: Sequence[float] | None = None) -> str | None:
    """The answer with the most votes, or the largest sum of weights; of equals the first seen.

    None when no sample has an answer.

    Raises:
        ConfigError: not one weight a sample.
        EncodingError: a weight is NaN, infinite or negative.
    """
    return next(iter(_winners(answers, weights)), None)


def expected_vote(
    answers: Sequence[str | None],
    right: Sequence[bool],
    weights: Sequence[float] | None = None,
) -> float:
    """The probability that the voted answer is right, each of the tied answers equally likely.

    0 when no sample has an answer. Raises as `vote` and `check_flags` do.
    """
    check_flags(answers, right)
    winners = _winners(answers, weights)
    is_right = dict(zip(answers, right, strict=True))
    return sum(is_right[answer] for answer in winners) / len(winners) if winners else 0.0


def check_weights(answers: Sequence[str | None], weights: Sequence[float]) -> None:
    """Refuse weights that cannot be summed into votes.

    Raises:
        ConfigError: not one weight a sample.
        EncodingError: a weight is NaN, infinite or negative.
    """
    check_scores(answers, weights)
    for i, weight in enumerate(weights):
        if weight < 0 or math.isinf(weight):
            raise EncodingError(
                f"the weight of sample {i} is {weight}; a weighted vote needs finite scores >= 0"
            )


def _winners(answers: Sequence[str | None], weights: Sequence[float] | None) -> list[str]:
    """All answers with the largest sum, in the order in which they were seen."""
    if weights is None:
        weights = [1.0] * len(answers)
    check_weights(answers, weights)
    votes: dict[str, list[float]] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(weight)
    sums = {answer: math.fsum(parts) for answer, parts in votes.items()}
    least = max(sums.values(), default=0.0) * (1 - TIE_TOLERANCE)
    return [answer for answer, total in sums.items() if total >= least]
