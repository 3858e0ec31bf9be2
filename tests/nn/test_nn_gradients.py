"""Backprop against central finite differences, (C(w + h) - C(w - h)) / 2h, in float64."""

from __future__ import annotations

import numpy as np
import pytest

STEP = 1e-5  # truncation h^2 and rounding eps / h are both near 1e-10

ACTIVATIONS = ["sigmoid", "tanh", "relu", "gelu", "identity"]
HIDDEN = [(), (4,), (5, 4), (4, 5, 3)]
LOSSES = [
    pytest.param("cross_entropy", True, id="cross_entropy"),
    pytest.param("squared_error", True, id="squared_error-classes"),
    pytest.param("squared_error", False, id="squared_error-targets"),
]


def differentiate(loss, point: np.ndarray) -> np.ndarray:
    slopes = np.empty_like(point)
    for i in range(len(point)):
        moved = point.copy()
        moved[i] = point[i] + STEP
        above = loss(moved)
        moved[i] = point[i] - STEP
        slopes[i] = (above - loss(moved)) / (2 * STEP)
    return slopes


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    assert np.linalg.norm(expected) > 0.1
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("hidden", HIDDEN, ids=lambda hidden: f"depth{len(hidden)}")
@pytest.mark.parametrize(("loss", "is_classification"), LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_is_the_slope_of_the_loss(
    activation, loss, is_classification, hidden, dropout, make_model, draw_point, draw_examples, backprop
):
    model = make_model(is_classification, hidden=hidden, activation=activation, loss=loss, dropout=dropout)
    point = draw_point(model)
    x, y = draw_examples(5, is_classification)
    _, gradient = backprop(model, point, x, y)
    slopes = differentiate(lambda moved: backprop(model, moved, x, y)[0], point)
    assert relative_error(gradient, slopes) < 1e-7


@pytest.mark.parametrize(("loss", "is_classification"), LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_single_examples_sum_to_that_of_the_batch(
    activation, loss, is_classification, make_model, draw_point, draw_examples, backprop
):
    model = make_model(is_classification, hidden=(5, 4), activation=activation, loss=loss)
    point = draw_point(model)
    x, y = draw_examples(6, is_classification)
    batch_loss, batch_gradient = backprop(model, point, x, y)
    single = [backprop(model, point, x[i : i + 1], y[i : i + 1]) for i in range(6)]
    assert sum(loss for loss, _ in single) == pytest.approx(batch_loss, rel=1e-13)
    assert relative_error(sum(gradient for _, gradient in single), batch_gradient) < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_does_not_depend_on_what_was_computed_before(
    activation, dtype, make_model, draw_point, draw_examples, backprop
):
    fields = {"hidden": (5, 4), "activation": activation, "dropout": 0.3}
    used, fresh = make_model(dtype=dtype, **fields), make_model(dtype=dtype, **fields)
    point = draw_point(used).astype(dtype)
    x, y = draw_examples(6, True)
    x = x.astype(dtype)
    backprop(used, -point, x[::-1].copy(), y)
    used.predict(used.layout.views(point), x)
    assert backprop(used, point, x, y)[1].tobytes() == backprop(fresh, point, x, y)[1].tobytes()


def test_dropout_drops_the_given_share_and_keeps_the_mean(make_model):
    model = make_model(hidden=(2000,), activation="identity", dropout=0.25)
    (mask,) = model.dropout_masks(50, np.random.default_rng(0))
    assert np.unique(mask).tolist() == pytest.approx([0, 1 / 0.75])
    assert np.mean(mask == 0) == pytest.approx(0.25, abs=0.01)


def test_evaluation_drops_nothing(make_model, draw_point, draw_examples):
    plain = make_model(hidden=(5, 4), dropout=0.0)
    dropping = make_model(hidden=(5, 4), dropout=0.5)
    point = draw_point(plain)
    x, y = draw_examples(6, True)
    views = plain.layout.views(point)
    assert dropping.loss_sums(views, x, y) == plain.loss_sums(views, x, y)
    assert dropping.predict(views, x).tobytes() == plain.predict(views, x).tobytes()


@pytest.mark.parametrize(("loss", "is_classification"), LOSSES)
def test_training_and_evaluation_give_the_same_loss(
    loss, is_classification, make_model, draw_point, draw_examples, backprop
):
    model = make_model(is_classification, hidden=(5, 4), loss=loss)
    point = draw_point(model)
    x, y = draw_examples(6, is_classification)
    assert model.loss_sums(model.layout.views(point), x, y).loss == backprop(model, point, x, y)[0]
