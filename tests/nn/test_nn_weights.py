"""Weights of examples, and losses of several labels, in the gradient: against finite differences and repeated rows."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.config import Model as ModelConfig
from distbp.errors import ConfigError
from distbp.nn.build import ModelSpec
from distbp.nn.mlp import MLP, build_mlp
from distbp.nn.streams import Purpose, stream

WEIGHTS = np.array([0.0, 2.0, 1.0, 3.0, 0.5])


def gradient_of(model: MLP, point: np.ndarray, *arguments: np.ndarray | None) -> tuple[object, np.ndarray]:
    """The sums and the flat gradient. arguments: x, y, and weights where there are some."""
    x, y, *weights = arguments
    gradient = np.full_like(point, np.nan)
    views = model.layout.views(gradient)
    return model.gradient_sums(model.layout.views(point), x, y, views, stream(0, Purpose.DROPOUT), *weights), gradient


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_weighted_sums_are_those_of_single_examples_times_their_weights(make_model, draw_point, draw_examples, loss):
    model = make_model(loss=loss)
    point = draw_point(model)
    x, y = draw_examples(5, True)
    sums, gradient = gradient_of(model, point, x, y, WEIGHTS)
    alone = [gradient_of(model, point, x[i : i + 1], y[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(gradient, sum(w * g for w, (_, g) in zip(WEIGHTS, alone, strict=True)), atol=1e-12)
    assert sums.loss == pytest.approx(sum(w * s.loss for w, (s, _) in zip(WEIGHTS, alone, strict=True)))
    assert (sums.weight, sums.divisor, sums.num_examples) == (WEIGHTS.sum(), WEIGHTS.sum(), 5)


def test_accuracy_counts_each_example_as_much_as_it_weighs(make_model, draw_point, draw_examples):
    model = make_model()
    x, y = draw_examples(5, True)
    views = model.layout.views(draw_point(model))
    right = model.predict(views, x).argmax(axis=1) == y
    sums = model.loss_sums(views, x, y, WEIGHTS)
    assert sums.correct == pytest.approx((WEIGHTS * right).sum())
    assert sums.num_answers == WEIGHTS.sum()


def test_gradient_of_binary_cross_entropy_is_that_of_finite_differences(make_model, draw_point, draw_examples):
    model = make_model(is_classification=False, loss="binary_cross_entropy")
    point = draw_point(model)
    x, _ = draw_examples(5, True)
    y = (np.random.default_rng(3).random((5, 4)) > 0.5).astype(float)
    sums, gradient = gradient_of(model, point, x, y)
    for index in range(0, len(point), 7):
        step = np.zeros_like(point)
        step[index] = 1e-5
        above, below = (gradient_of(model, point + sign * step, x, y)[0].loss for sign in (1, -1))
        assert gradient[index] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-7)
    outputs = model.predict(model.layout.views(point), x)
    assert sums.loss == pytest.approx(-(y * np.log(outputs) + (1 - y) * np.log(1 - outputs)).sum())


def test_binary_cross_entropy_of_extreme_values_is_finite():
    loss = build_mlp(ModelConfig(hidden=(), loss="binary_cross_entropy"), 1, 1, False, "float32")
    views = {"0.weight": np.full((1, 1), 1000, np.float32), "0.bias": np.zeros(1, np.float32)}
    x, y = np.array([[1], [-1]], np.float32), np.array([[0], [1]], np.float32)
    assert loss.loss_sums(views, x, y).loss == 2000
    assert loss.predict(views, x).tolist() == [[1], [0]]


def test_losses_of_scaled_targets_are_told_in_the_users_units(draw_examples):
    plain, scaled = (
        build_mlp(ModelConfig(loss="squared_error"), 3, 4, False, "float64", units)
        for units in (None, (4.0, 4.0, 4.0, 4.0))
    )
    point = np.random.default_rng(0).normal(size=plain.layout.num_parameters)
    x, y = draw_examples(5, False)
    (sums, gradient), (told, same) = (gradient_of(model, point, x, y) for model in (plain, scaled))
    assert told.loss == pytest.approx(4 * sums.loss)
    np.testing.assert_array_equal(gradient, same)


def test_binary_cross_entropy_of_one_label_is_refused():
    with pytest.raises(ConfigError, match="several targets that are each one of two classes"):
        ModelSpec(ModelConfig(loss="binary_cross_entropy"), 3, 4, True, "float64").build()
