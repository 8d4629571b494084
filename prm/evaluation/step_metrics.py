"""How well step scores find the first error: F1 as in ProcessBench, thresholds, ROC AUC.

The first error is a 0-based step index, None = no error (ProcessBench's files write -1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prm.errors import ConfigError, EncodingError

UNREADABLE = -1
"""A prediction that could not be read, say of a critic: wrong whatever the truth is."""


class FirstErrorF1(NamedTuple):
    """Shares in [0, 1]. None where a class has no solutions: then the F1 is undefined too."""

    f1: float | None
    accuracy_wrong: float | None
    accuracy_right: float | None
    num_wrong: int
    num_right: int


class BestThreshold(NamedTuple):
    """A step counts as wrong when its score is < ``threshold``."""

    threshold: float
    f1: float


def roc_auc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The chance that a right step outscores a wrong one, ties counting one half.

    None when one of the classes is absent.

    Raises:
        ConfigError: not one label a score.
        EncodingError: a score is NaN or infinite.
    """
    values = _finite(scores)
    is_right = np.asarray(labels, dtype=bool)
    if values.shape != is_right.shape:
        raise ConfigError(f"{values.size} scores for {is_right.size} labels")
    num_right = int(is_right.sum())
    num_wrong = is_right.size - num_right
    if not num_right or not num_wrong:
        return None
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    rank_sum = float(ranks[is_right].sum())
    return (rank_sum - num_right * (num_right + 1) / 2) / (num_right * num_wrong)


def step_auc(
    score_lists: Sequence[Sequence[float]], first_errors: Sequence[int | None]
) -> float | None:
    """ROC AUC over all steps up to and including the first error of each solution.

    Steps before the error are right, the one at it is wrong; what comes later has no agreed
    truth and is left out. None when there are only right or only wrong steps.
    """
    _check(score_lists, first_errors)
    scores: list[float] = []
    labels: list[bool] = []
    for row, error in zip(score_lists, first_errors, strict=True):
        judged = row if error is None else row[: error + 1]
        scores.extend(judged)
        labels.extend(step != error for step in range(len(judged)))
    return roc_auc(scores, labels)


def first_error_of(scores: Sequence[float], threshold: float) -> int | None:
    """The first step whose score is < ``threshold``, None when there is none.

    Raises:
        EncodingError: a score is NaN or infinite.
    """
    _finite(scores)
    return next((step for step, score in enumerate(scores) if score < threshold), None)


def first_error_f1(predicted: Sequence[int | None], truth: Sequence[int | None]) -> FirstErrorF1:
    """The F1 of ProcessBench (arXiv 2412.06559): 2 a b / (a + b), and 0 when a = b = 0.

    a is the share of the wrong solutions whose first error is named exactly, b the share of the
    right solutions that are called right. `UNREADABLE` predictions count as wrong.

    Raises:
        ConfigError: not one prediction a solution, or a negative index as truth (map -1 to None).
    """
    if len(predicted) != len(truth):
        raise ConfigError(f"{len(predicted)} predictions for {len(truth)} solutions")
    if any(error is not None and error < 0 for error in truth):
        raise ConfigError("a negative first error in the truth: write None for no error")
    pairs = list(zip(predicted, truth, strict=True))
    wrong = [guess == error for guess, error in pairs if error is not None]
    right = [guess is None for guess, error in pairs if error is None]
    accuracy_wrong = sum(wrong) / len(wrong) if wrong else None
    accuracy_right = sum(right) / len(right) if right else None
    f1 = None
    if accuracy_wrong is not None and accuracy_right is not None:
        total = accuracy_wrong + accuracy_right
        f1 = 2 * accuracy_wrong * accuracy_right / total if total else 0.0
    return FirstErrorF1(f1, accuracy_wrong, accuracy_right, len(wrong), len(right))


def best_threshold(
    score_lists: Sequence[Sequence[float]], truth: Sequence[int | None]
) -> BestThreshold:
    """The threshold of the largest first-error F1, the middle of the widest range that has it.

    Exact: the prediction of a solution is right for the thresholds of one interval (low, high],
    so one sweep over the distinct scores sees every F1 there is. Ranges at either end are
    measured to 0 and 1 (or to the outermost score beyond).

    Raises:
        ConfigError: lengths differ, or solutions with or without an error are absent.
        EncodingError: a score is NaN or infinite.
    """
    _check(score_lists, truth)
    num_wrong = sum(error is not None for error in truth)
    num_right = len(truth) - num_wrong
    if not num_wrong or not num_right:
        raise ConfigError(
            f"{num_wrong} solutions with an error and {num_right} without: both are needed"
        )
    values = np.unique(np.concatenate([_finite(row) for row in score_lists]))
    right, wrong = _hits(values, score_lists, truth)
    a, b = wrong / num_wrong, right / num_right
    f1 = 2 * a * b / np.where(a + b > 0, a + b, 1.0)
    low, high = _widest(values, f1 >= f1.max() - 1e-12)
    middle = (low + high) / 2
    return BestThreshold(middle if middle > low else high, float(f1.max()))


def _hits(
    values: NDArray[np.float64],
    score_lists: Sequence[Sequence[float]],
    truth: Sequence[int | None],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right predictions among right and wrong solutions, for a threshold of each cell.

    Cell i is (values[i - 1], values[i]]; the first and the last are open to the outside.
    """
    changes = np.zeros((2, len(values) + 2), dtype=np.int64)
    for row, error in zip(score_lists, truth, strict=True):
        high = min(row[:error], default=np.inf)
        low = -np.inf if error is None else row[error]
        if low < high:
            is_wrong = int(error is not None)
            changes[is_wrong, np.searchsorted(values, low, side="right")] += 1
            changes[is_wrong, np.searchsorted(values, high, side="left") + 1] -= 1
    right, wrong = np.cumsum(changes, axis=1)[:, :-1]
    return right, wrong


def _widest(values: NDArray[np.float64], is_best: NDArray[np.bool_]) -> tuple[float, float]:
    """The ends (low, high] of the widest run of best cells."""
    if not len(values):
        return 0.0, 1.0
    above = max(1.0, float(np.nextafter(values[-1], np.inf)))
    edges = np.concatenate([[min(0.0, float(values[0]))], values, [above]])
    steps = np.diff(np.concatenate([[0], is_best.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    widest = int(np.argmax(edges[ends] - edges[starts]))
    return float(edges[starts[widest]]), float(edges[ends[widest]])


def _check(score_lists: Sequence[Sequence[float]], truth: Sequence[int | None]) -> None:
    if len(score_lists) != len(truth):
        raise ConfigError(f"{len(score_lists)} score lists for {len(truth)} solutions")
    for i, (row, error) in enumerate(zip(score_lists, truth, strict=True)):
        if error is not None and not 0 <= error < len(row):
            raise ConfigError(
                f"solution {i}: first error {error} is none of its {len(row)} scored steps "
                "(None means no error)"
            )


def _finite(scores: Any) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        i = int(np.argmax(bad))
        raise EncodingError(f"score {i} is {values[i]}; look at the scorer's output")
    return values
