"""Losses and predictions against their textbook formulas, worked out naively for a network without hidden layers."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.nn.activations import activation
from distbp.nn.losses import CrossEntropy, SquaredError

Z = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 3.0]])
CLASSES = np.array([2, 0])
TARGETS = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])


def test_cross_entropy_is_minus_the_log_of_the_softmax():
    softmax = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    assert CrossEntropy().outputs(Z.copy()) == pytest.approx(softmax)
    assert CrossEntropy().losses(Z.copy(), CLASSES) == pytest.approx(-np.log(softmax[[0, 1], CLASSES]))


def test_squared_error_of_classes_is_the_lessons_cost_of_sigmoid_outputs():
    a = 1 / (1 + np.exp(-Z))
    wanted = np.array([[0, 0, 1], [1, 0, 0]])
    expected = ((a - wanted) ** 2).sum(axis=1)  # no factor 1/2
    assert SquaredError(activation("sigmoid")).losses(Z.copy(), CLASSES) == pytest.approx(expected)


def test_squared_error_of_targets_sums_over_the_outputs():
    expected = ((Z - TARGETS) ** 2).sum(axis=1)
    assert SquaredError(activation("identity")).losses(Z.copy(), TARGETS) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_huge_outputs_stays_finite(dtype):
    z = np.array([[1e4, -1e4, 0.0]], dtype)
    losses, delta = CrossEntropy().losses_and_delta(z, np.array([1]))
    assert losses == pytest.approx([2e4])
    assert delta.tolist() == [[1.0, -1.0, 0.0]]


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "relu"])
def test_activation_of_huge_values_stays_finite(name):
    z = np.array([[-1e4, 1e4]], np.float32)
    a = np.empty_like(z)
    activation(name).apply(z, a)
    assert np.isfinite(a).all()


def test_correct_predictions_are_counted(make_model, draw_point, draw_examples):
    model = make_model(hidden=(5,))
    views = model.layout.views(draw_point(model))
    x, y = draw_examples(20, True)
    expected = int((model.predict(views, x).argmax(axis=1) == y).sum())
    assert model.loss_sums(views, x, y).correct == expected


def test_regression_counts_nothing_as_correct(make_model, draw_point, draw_examples):
    model = make_model(False, hidden=(5,), loss="squared_error")
    assert model.loss_sums(model.layout.views(draw_point(model)), *draw_examples(20, False)).correct == 0
