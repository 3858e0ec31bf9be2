"""scikit-learn as an oracle: the same initial weights and batches give the same loss after every epoch.

Its conventions differ: the penalty's gradient is alpha * W / batch size, its loss includes
alpha / 2 * sum(W^2) / batch size, and its squared error is half the mean over the outputs.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from distbp.protocol.planning import step_order, steps_per_epoch

pytestmark = pytest.mark.slow

NUM_EPOCHS, BATCH, RATE = 12, 20, 0.1
MOMENTA = [
    pytest.param({"momentum": 0.0}, id="plain"),
    pytest.param({"momentum": 0.9}, id="momentum"),
    pytest.param({"momentum": 0.9, "nesterov": True}, id="nesterov"),
]
ALPHAS = [pytest.param(0.0, id="no L2"), pytest.param(0.5, id="L2")]


@pytest.fixture(autouse=True)
def _examples_in_file_order(monkeypatch):
    monkeypatch.setattr(
        "distbp.protocol.supply.epoch_order", lambda _seed, _epoch, num_examples: np.arange(num_examples)
    )


def their_losses(make, problem, alpha: float) -> list[float]:
    """scikit-learn's loss after each epoch, from the problem's initial weights."""
    layers = weights_and_biases(problem, problem.initial_state().parameters)

    class FromOurWeights(make):
        def _init_coef(self, *_):
            return layers.pop(0)

    recipe = problem.recipe
    oracle = FromOurWeights(
        hidden_layer_sizes=recipe.model.hidden,
        activation="logistic" if recipe.model.activation == "sigmoid" else recipe.model.activation,
        solver="sgd",
        learning_rate_init=RATE,
        momentum=recipe.optimizer.momentum,
        nesterovs_momentum=recipe.optimizer.nesterov,
        alpha=alpha,
        batch_size=BATCH,
        shuffle=False,
    )
    y = problem.examples.y
    known = {"classes": np.unique(y)} if y.ndim == 1 else {}
    for _ in range(NUM_EPOCHS):
        oracle.partial_fit(problem.examples.x, y, **known)
        known = {}
    return oracle.loss_curve_


def our_losses(problem, alpha: float, scale: float = 1.0) -> list[float]:
    """Our loss times `scale` plus scikit-learn's penalty, averaged over each epoch's examples."""
    server = problem.server()
    num_examples = len(problem.examples)
    num_steps = steps_per_epoch(problem.recipe, num_examples)
    losses = [0.0] * NUM_EPOCHS
    for step in range(NUM_EPOCHS * num_steps):
        order = step_order(problem.recipe, step, num_examples)
        weights = [weight for weight, _ in weights_and_biases(problem, server.parameters)]
        penalty = alpha / 2 * sum(float((weight**2).sum()) for weight in weights) / (order.stop - order.start)
        report = server.commit(order, problem.compute(server.parameters, order, num_workers=2))
        losses[order.epoch] += (scale * report.loss + penalty) * report.num_examples / num_examples
    return losses


def weights_and_biases(problem, flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Copies of each layer's weights, inputs by outputs as scikit-learn has them, and biases."""
    views = problem.model.build().layout.views(flat)
    return [(views[f"{i}.weight"].T.copy(), views[f"{i}.bias"].copy()) for i in range(len(views) // 2)]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("optimizer", MOMENTA)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_classifier_has_scikit_learns_losses(activation, optimizer, alpha, make_problem):
    problem = make_problem(
        num_examples=4 * BATCH,
        model={"hidden": [7, 5], "activation": activation, "init": "normal"},
        optimizer={"learning_rate": RATE, "weight_decay": alpha / BATCH, **optimizer},
        global_batch_size=BATCH,
        epochs=NUM_EPOCHS,
        dtype="float64",
    )
    expected = their_losses(MLPClassifier, problem, alpha)
    assert expected[-1] != pytest.approx(expected[0], rel=0.01)
    assert our_losses(problem, alpha) == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("optimizer", MOMENTA)
def test_regressor_has_scikit_learns_losses(optimizer, alpha, make_problem):
    """Its gradient is half of ours, so our learning rate is half of its, and our weight decay twice."""
    problem = make_problem(
        num_examples=4 * BATCH,
        is_classification=False,
        model={"hidden": [7], "activation": "tanh", "loss": "squared_error"},
        optimizer={"learning_rate": RATE / 2, "weight_decay": 2 * alpha / BATCH, **optimizer},
        global_batch_size=BATCH,
        epochs=NUM_EPOCHS,
        dtype="float64",
    )
    expected = their_losses(MLPRegressor, problem, alpha)
    num_outputs = problem.examples.y.shape[1]
    assert expected[-1] != pytest.approx(expected[0], rel=0.01)
    assert our_losses(problem, alpha, scale=0.5 / num_outputs) == pytest.approx(expected, rel=0, abs=1e-9)


def test_a_short_last_batch_counts_as_scikit_learn_counts_it(make_problem):
    problem = make_problem(
        num_examples=3 * BATCH + 13,
        optimizer={"learning_rate": RATE, "momentum": 0.9},
        global_batch_size=BATCH,
        epochs=NUM_EPOCHS,
        dtype="float64",
    )
    expected = their_losses(MLPClassifier, problem, alpha=0.0)
    assert our_losses(problem, alpha=0.0) == pytest.approx(expected, rel=0, abs=1e-9)
