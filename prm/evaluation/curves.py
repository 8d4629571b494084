"""Accuracy against the number of samples n, for every method on the same samples.

Each problem has m samples and each value is the expectation over a random choice of n of them,
with ties at their expected value. Methods: ``pass`` (pass@n: one of the n is right), ``random``
(one of the n at random), ``majority``, and for each scorer ``best_of_n:NAME`` and
``weighted_vote:NAME``. Samples without an answer are wrong, never chosen, and do not vote.

All are exact closed forms but the votes, which go through subsets: through all of them up to
``max_subsets``, through a seeded sample beyond; `Curves.subsets` says which.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prm.errors import ConfigError
from prm.search.best_of_n import check_flags, check_scores
from prm.search.voting import TIE_TOLERANCE, check_weights

_Floats = NDArray[np.float64]
_Masks = dict[tuple[int, int], _Floats]


@dataclasses.dataclass(frozen=True, slots=True)
class SampledProblem:
    """The samples of one problem: final answers, correctness, and a solution score per scorer."""

    answers: Sequence[str | None]
    right: Sequence[bool]
    scores: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


class Subsets(NamedTuple):
    """How many of the subsets of one size the votes went through."""

    used: int
    total: int

    @property
    def exact(self) -> bool:
        """Whether all of them were used."""
        return self.used == self.total


@dataclasses.dataclass(frozen=True, slots=True)
class Curves:
    """``values[method, n]`` has one accuracy a problem, in order; ``subsets[m, n]`` as used."""

    methods: tuple[str, ...]
    ns: tuple[int, ...]
    values: dict[tuple[str, int], _Floats]
    subsets: dict[tuple[int, int], Subsets]


def accuracy_curves(
    problems: Sequence[SampledProblem],
    *,
    ns: Sequence[int] = (1, 2, 4, 8),
    weighted: Collection[str] | None = None,
    max_subsets: int = 70,
    seed: int = 0,
) -> Curves:
    """Measure every method on the same problems, for each n.

    ``weighted`` names the scorers that also weigh a vote (None = all): their scores must be >= 0.

    Raises:
        ConfigError: no problems, unlike scorers or lengths, or fewer samples than an n.
        RecordError: flags that contradict the answers.
        EncodingError: a score is NaN, or a weight negative or infinite.
    """
    if not problems or not ns or min(ns) < 1:
        raise ConfigError(f"{len(problems)} problems and ns = {list(ns)}: nothing to measure")
    scorers = tuple(problems[0].scores)
    voters = scorers if weighted is None else tuple(weighted)
    for i, problem in enumerate(problems):
        _check(problem, i, scorers, voters, max(ns))
    sizes = sorted({len(problem.answers) for problem in problems})
    masks = {(m, n): _subset_masks(m, n, max_subsets, seed) for m in sizes for n in ns}
    rows = [_problem_values(problem, scorers, voters, ns, masks) for problem in problems]
    values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return Curves(
        methods=tuple(dict.fromkeys(method for method, _ in values)),
        ns=tuple(ns),
        values=values,
        subsets={(m, n): Subsets(len(mask), math.comb(m, n)) for (m, n), mask in masks.items()},
    )


def pass_at_n(num_samples: int, num_right: int, n: int) -> float:
    """The unbiased estimate of pass@n (arXiv 2107.03374, section 2.1): 1 - C(m - c, n) / C(m, n).

    Raises:
        ConfigError: n or num_right is not within the samples.
    """
    if not 1 <= n <= num_samples or not 0 <= num_right <= num_samples:
        raise ConfigError(f"pass@{n} of {num_right} right among {num_samples} samples")
    return 1 - math.comb(num_samples - num_right, n) / math.comb(num_samples, n)


def _problem_values(
    problem: SampledProblem,
    scorers: Sequence[str],
    voters: Sequence[str],
    ns: Sequence[int],
    masks: _Masks,
) -> dict[tuple[str, int], float]:
    m, num_right = len(problem.answers), sum(problem.right)
    values = {}
    for n in ns:
        values["pass", n] = pass_at_n(m, num_right, n)
        values["random", n] = num_right / m
    for name in scorers:
        levels = _levels(problem, problem.scores[name])
        for n in ns:
            values[f"best_of_n:{name}", n] = _best_of_n(levels, m, n)
    methods = ["majority", *(f"weighted_vote:{name}" for name in voters)]
    weights = np.array([[1.0] * m, *(problem.scores[name] for name in voters)])
    for n in ns:
        accuracies = _votes(problem, weights, masks[m, n])
        values.update({(method, n): x for method, x in zip(methods, accuracies, strict=True)})
    return values


def _levels(problem: SampledProblem, scores: Sequence[float]) -> list[tuple[int, float]]:
    """For each distinct score from below: its number of samples and their share of right ones.

    Samples without an answer are the lowest level, with share 0: something is chosen from them
    only when there is nothing else, and it is wrong.
    """
    groups: dict[float, list[bool]] = {}
    for answer, score, right in zip(problem.answers, scores, problem.right, strict=True):
        if answer is not None:
            groups.setdefault(score, []).append(right)
    levels = [(len(flags), sum(flags) / len(flags)) for _, flags in sorted(groups.items())]
    return [(problem.answers.count(None), 0.0), *levels]


def _best_of_n(levels: Sequence[tuple[int, float]], m: int, n: int) -> float:
    """P(the chosen is right): the best level of n random samples is level j, then any of it.

    No more than k of the samples lie at or below level j; all n lie there with probability
    C(k, n) / C(m, n). Within a level every sample is equally likely to be chosen.
    """
    chances, below = 0.0, 0
    for size, share in levels:
        chances += (math.comb(below + size, n) - math.comb(below, n)) * share
        below += size
    return chances / math.comb(m, n)


def _votes(problem: SampledProblem, weights_VM: _Floats, masks_KM: _Floats) -> list[float]:
    """The accuracy of each vote, a mean over the subsets. V votes, M samples, K subsets, A answers.

    The tensor names carry their axes.
    """
    right_of = dict(zip(problem.answers, problem.right, strict=True))
    right_of.pop(None, None)
    if not right_of:
        return [0.0] * len(weights_VM)
    given_MA = np.array([[answer == a for a in right_of] for answer in problem.answers], float)
    is_present_KA = masks_KM @ given_MA > 0
    sums_VKA = (weights_VM[:, None, :] * masks_KM) @ given_MA
    sums_VKA = np.where(is_present_KA, sums_VKA, -1.0)
    least_VK1 = np.maximum(sums_VKA.max(axis=2, keepdims=True), 0.0) * (1 - TIE_TOLERANCE)
    is_tied_VKA = sums_VKA >= least_VK1
    num_tied_VK = np.maximum(is_tied_VKA.sum(axis=2), 1)
    right_VK = is_tied_VKA @ np.array(list(right_of.values()), dtype=np.float64)
    return [float(x) for x in (right_VK / num_tied_VK).mean(axis=1)]


def _subset_masks(m: int, n: int, max_subsets: int, seed: int) -> _Floats:
    """Subsets of n of m samples as rows of 0 and 1: all, or a seeded sample of max_subsets.

    n = 1 and n = m are always exact.
    """
    if math.comb(m, n) <= max(max_subsets, m):
        chosen = np.array(list(itertools.combinations(range(m), n)))
    else:
        rng = np.random.default_rng([seed, m, n])
        chosen = np.argsort(rng.random((max_subsets, m)), axis=1)[:, :n]
    masks = np.zeros((len(chosen), m))
    np.put_along_axis(masks, chosen, 1.0, axis=1)
    return masks


def _check(
    problem: SampledProblem, i: int, scorers: Sequence[str], voters: Sequence[str], max_n: int
) -> None:
    if len(problem.answers) < max_n:
        raise ConfigError(f"problem {i} has {len(problem.answers)} samples, fewer than n = {max_n}")
    if set(problem.scores) != set(scorers) or not set(voters) <= set(scorers):
        raise ConfigError(
            f"problem {i} has scores of {sorted(problem.scores)}; expected {sorted(scorers)}, "
            f"among them the voters {sorted(voters)}"
        )
    check_flags(problem.answers, problem.right)
    for name in scorers:
        check_scores(problem.answers, problem.scores[name])
    for name in voters:
        check_weights(problem.answers, problem.scores[name])
