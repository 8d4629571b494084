"""The control for a PRM: how much of "this step is right" do surface features explain?

A logistic model of the step's index, the number of steps and the step's length, fitted on
labelled steps. A PRM that does not beat it has learnt nothing about the reasoning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prm.errors import ConfigError, TrainingError

_Floats = NDArray[np.float64]

# Newton's method needs about ten; each step may be halved this often to go downhill.
_MAX_STEPS = 100
_MAX_HALVINGS = 30


@dataclasses.dataclass(frozen=True, slots=True)
class LogisticModel:
    """P(right) = sigmoid(bias + weights . (features - mean) / scale)."""

    bias: float
    weights: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]


def surface_features(steps: Sequence[str]) -> list[tuple[float, float, float]]:
    """For each step: its index from 0, the number of steps, its length in characters."""
    return [(float(i), float(len(steps)), float(len(step))) for i, step in enumerate(steps)]


def fit(features: ArrayLike, labels: ArrayLike, *, l2: float = 1.0) -> LogisticModel:
    """Fit the model by Newton's method on the summed log-loss + l2 / 2 * |weights|^2.

    ``features`` [steps, features], ``labels`` [steps] in [0, 1] (soft labels too). Features are
    standardised, a constant one is ignored; the bias is not penalised.

    Raises:
        ConfigError: shapes that do not fit, values that are not finite, or l2 <= 0.
        TrainingError: the labels are all 0 or all 1, or the method did not converge.
    """
    x = _features(features)
    y = np.asarray(labels, dtype=np.float64)
    if y.shape != x.shape[:1] or not ((y >= 0) & (y <= 1)).all() or not l2 > 0:
        raise ConfigError(
            f"labels of shape {y.shape} for features of shape {x.shape}, l2 = {l2}: expected one "
            "label in [0, 1] a row, and l2 > 0"
        )
    if not 0 < y.sum() < y.size:
        raise TrainingError(f"all {y.size} labels are the same: there is nothing to fit")
    mean, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    penalty = np.full(design.shape[1], l2)
    penalty[0] = 0.0
    w = _newton(design, y, penalty)
    return LogisticModel(
        bias=float(w[0]),
        weights=tuple(w[1:].tolist()),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
    )


def predict(model: LogisticModel, features: ArrayLike) -> list[float]:
    """P(right) for each row of ``features`` [steps, features].

    Raises:
        ConfigError: another number of features than the model was fitted on.
    """
    x = _features(features)
    if x.shape[1] != len(model.weights):
        raise ConfigError(f"{x.shape[1]} features for a model of {len(model.weights)}")
    z = (x - np.array(model.mean)) / np.array(model.scale) @ np.array(model.weights)
    probabilities: list[float] = _sigmoid(z + model.bias).tolist()
    return probabilities


def _newton(design: _Floats, y: _Floats, penalty: _Floats) -> _Floats:
    w = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):
        p = _sigmoid(design @ w)
        gradient = design.T @ (p - y) + penalty * w
        hessian = (design.T * (p * (1 - p))) @ design + np.diag(penalty)
        step: _Floats = np.linalg.solve(hessian, gradient).astype(np.float64)
        if np.abs(step).max() < 1e-9:
            return w - step
        w = _downhill(design, y, penalty, w, step)
    raise TrainingError(f"the logistic model did not converge in {_MAX_STEPS} steps")


def _downhill(design: _Floats, y: _Floats, penalty: _Floats, w: _Floats, step: _Floats) -> _Floats:
    """The Newton step, halved until it does not raise the loss."""
    start = _loss(design, y, penalty, w)
    for halving in range(_MAX_HALVINGS):
        moved: _Floats = w - step * 0.5**halving
        if _loss(design, y, penalty, moved) <= start + 1e-12 * abs(start):
            return moved
    raise TrainingError("the logistic model found no step downhill: look at its features")


def _loss(design: _Floats, y: _Floats, penalty: _Floats, w: _Floats) -> float:
    z = design @ w
    return float((np.logaddexp(0.0, z) - y * z).sum() + 0.5 * (penalty * w * w).sum())


def _sigmoid(z: _Floats) -> _Floats:
    probabilities: _Floats = np.exp(-np.logaddexp(0.0, -z))
    return probabilities


def _features(features: ArrayLike) -> _Floats:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ConfigError(f"features of shape {x.shape}: expected finite [steps, features]")
    return x
