import math

import numpy as np
import pytest

from prm.errors import ConfigError, TrainingError
from prm.evaluation.baselines import LogisticModel, fit, predict, surface_features
from prm.evaluation.step_metrics import roc_auc


def test_the_surface_features_of_two_steps() -> None:
    assert surface_features(["Step 1: 3 + 9 = 12", "Answer: 12"]) == [(0, 2, 18), (1, 2, 10)]


def test_a_constant_feature_leaves_the_base_rate() -> None:
    # Only the bias is fitted: sigmoid(bias) is the share of right steps, 3 of 4.
    model = fit([[5.0]] * 4, [1, 1, 1, 0])
    assert model.weights == (0.0,)
    assert predict(model, [[5.0], [7.0]]) == pytest.approx([0.75, 0.75])


def test_a_binary_feature_without_penalty_gives_the_rates_of_its_groups() -> None:
    features = [[0.0]] * 4 + [[1.0]] * 5
    labels = [1, 0, 0, 0, 1, 1, 1, 1, 0]
    model = fit(features, labels, l2=1e-9)
    assert predict(model, [[0.0], [1.0]]) == pytest.approx([1 / 4, 4 / 5], abs=1e-6)


def test_the_gradient_is_zero_at_the_fit() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, 1.0]
    y = (rng.random(200) < 0.6).astype(float)
    model = fit(x, y, l2=2.0)
    z = (x - model.mean) / np.array(model.scale)
    residual = np.array(predict(model, x)) - y
    assert residual.sum() == pytest.approx(0.0, abs=1e-6)
    assert z.T @ residual + 2.0 * np.array(model.weights) == pytest.approx(np.zeros(3), abs=1e-6)


def test_known_weights_are_found_again() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 2))
    y = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 + 1.5 * x[:, 0] - 0.7 * x[:, 1])))
    model = fit(x, y)
    raw = np.array(model.weights) / model.scale
    assert raw == pytest.approx([1.5, -0.7], abs=0.06)
    assert model.bias - raw @ np.array(model.mean) == pytest.approx(0.5, abs=0.06)


def test_separable_steps_converge_to_finite_weights() -> None:
    x = [[float(k)] for k in range(10)]
    labels = [k >= 5 for k in range(10)]
    model = fit(x, labels, l2=1e-4)
    assert all(math.isfinite(w) for w in model.weights)
    assert roc_auc(predict(model, x), labels) == 1.0


def test_a_stronger_penalty_shrinks_the_weights() -> None:
    x, labels = [[float(k)] for k in range(10)], [0, 0, 1, 0, 0, 1, 1, 0, 1, 1]
    weights = [fit(x, labels, l2=l2).weights[0] for l2 in (0.01, 1.0, 100.0)]
    assert weights[0] > weights[1] > weights[2] > 0


def test_extreme_features_predict_without_overflow() -> None:
    model = LogisticModel(bias=0.0, weights=(1.0,), mean=(0.0,), scale=(1.0,))
    assert predict(model, [[-1e4], [0.0], [1e4]]) == [0.0, 0.5, 1.0]


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(TrainingError, match="all 2 labels are the same"):
        fit([[0.0], [1.0]], [1, 1])
    with pytest.raises(ConfigError, match="label"):
        fit([[0.0], [1.0]], [1])
    with pytest.raises(ConfigError, match="label"):
        fit([[0.0], [1.0]], [2, 0])
    with pytest.raises(ConfigError, match="l2 = 0"):
        fit([[0.0], [1.0]], [1, 0], l2=0.0)
    with pytest.raises(ConfigError, match="finite"):
        fit([[float("nan")]], [1])
    model = fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ConfigError, match="2 features for a model of 1"):
        predict(model, [[0.0, 1.0]])
