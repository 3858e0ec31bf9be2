"""Which network and which examples an explanation is about: checkpoints, the untrained network, parts and files."""

from __future__ import annotations

import numpy as np
import pytest

from distbp import Recipe, load_run
from distbp.data import prepare
from distbp.errors import CheckpointError, ConfigError, DataError
from distbp.explain import explain_run
from distbp.explain.costs import spread_costs
from distbp.explain.listening import NUM_STEPS, listen
from distbp.explain.opening import draw_untrained, open_network
from distbp.explain.population import Population
from distbp.nn.build import ModelSpec
from distbp.nn.streams import Purpose, epoch_order, stream

pytestmark = pytest.mark.slow


def test_parameters_are_exactly_those_of_the_checkpoint(train_small, middle_step):
    run = train_small().run
    for step in (middle_step(run), "best", "final"):
        explanation, trained = explain_run(run, step=step), load_run(run, step)
        assert (explanation.step, explanation.digest) == (trained.step, trained.digest)
        for name, tensor in trained.parameters.items():
            assert np.array_equal(explanation.network.parameters[name], tensor)


def test_step_0_is_the_untrained_network_of_the_recipes_seed(train_small):
    run = train_small().run
    explanation = explain_run(run, step=0)
    recipe = explanation.recipe
    model = ModelSpec(recipe.model, 6, 3, True, recipe.dtype).build()
    flat = np.zeros(model.layout.num_parameters, recipe.dtype)
    model.init(model.layout.views(flat), stream(recipe.seed, Purpose.INIT))
    assert explanation.step == 0
    assert np.array_equal(explanation.network.flat, flat)
    assert np.array_equal(draw_untrained(load_run(run)).flat, flat)
    assert load_run(run, 0).evaluate().loss > load_run(run).evaluate().loss


def test_dropout_is_for_training_only(train_small):
    explanation = explain_run(train_small(dropout=0.5).run)
    assert explanation.example.outputs.tolist() == explain_run(explanation.run).example.outputs.tolist()
    outputs = load_run(explanation.run).predict(explanation.example.inputs[None]).outputs[0]
    assert explanation.example.outputs.tolist() == pytest.approx(outputs.tolist(), rel=1e-5)


@pytest.mark.parametrize("part", ["training", "validation"])
def test_examples_of_the_runs_own_parts(train_small, part):
    explanation = explain_run(train_small().run, 5, data=part)
    data = prepare(explanation.recipe.data, explanation.recipe.seed)
    examples = data.train if part == "training" else data.validation
    row = examples.rows[5]
    assert explanation.example.row == row
    assert explanation.example.label == data.schema.classes[examples.y[row]]
    assert np.array_equal(explanation.example.inputs.ravel(), examples.x[row])
    assert explanation.example.inputs.shape == (3, 2)
    assert len(explanation.pulls.indices) == len(examples)
    assert not explanation.is_sample


def test_examples_of_a_file(train_small, folder):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((9, 3, 2)), np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    np.savez(folder / "new.npz", x=x, y=y)
    explanation = explain_run(train_small().run, 4, data=str(folder / "new.npz"))
    assert np.array_equal(explanation.example.inputs, x[4])
    assert explanation.example.label == 1
    assert len(explanation.pulls.indices) == 9
    assert len(explanation.batch.indices) == 9  # a whole batch would be 20


def test_the_mini_batch_is_the_next_one_of_the_run(train_small, middle_step):
    run = train_small().run
    step = middle_step(run)
    epoch, batch = divmod(step, 5)  # 96 examples are 4 batches of 20 and one of 16
    members = epoch_order(0, epoch, 96)[20 * batch : 20 * batch + 20]
    assert explain_run(run, step=step).batch.indices.tolist() == sorted(members)


def test_many_examples_are_averaged_over_an_even_sample(train_small, monkeypatch):
    monkeypatch.setattr("distbp.explain.population.MOST_EXAMPLES", 40)
    explanation = explain_run(train_small().run, 1)
    assert explanation.is_sample
    assert explanation.pulls.indices.tolist() == np.linspace(0, 95, 40).astype(int).tolist()
    assert explanation.pulls.shares.sum() == pytest.approx(1)


def test_listening_to_one_class_ends_in_calling_everything_that_class(train_small):
    run = train_small(name="listen").run
    explanation = explain_run(run, 0)
    for listening in explanation.listening:
        assert listening.label == explanation.example.label
        assert listening.steps[-1] == NUM_STEPS
        assert listening.called.sum(axis=1).tolist() == pytest.approx([1] * len(listening.steps))
        assert listening.called[-1, listening.class_number] > 0.95
        assert listening.accuracies[-1] < 0.5


def test_listening_makes_plain_steps_of_the_runs_optimizer(train_small):
    recipe = Recipe.model_validate(load_run(train_small(name="listen").run).config.recipe.model_dump())
    trained = load_run(train_small(name="listen").run)
    network, data = open_network(trained), prepare(recipe.data, recipe.seed)
    population = Population("training", trained.schema, recipe.dtype, data.train)
    listening = listen(network, population, recipe, 2)
    flat, velocity = network.flat.copy(), np.zeros_like(network.flat)
    heard = np.flatnonzero(population.classes() == 2)
    per_pass = len(heard) // 20
    for step in range(NUM_STEPS):
        order = epoch_order(0, step // per_pass, len(heard))
        members = heard[order[step % per_pass * 20 : step % per_pass * 20 + 20]]
        views = [open_view(network, flat, population, int(i)) for i in members]
        velocity = 0.9 * velocity + np.mean(views, axis=0)
        flat = flat - 0.05 * velocity
    x, y = population.take(np.arange(len(population)))
    costs = network.moved(flat - network.flat).losses(x, y)
    assert listening.costs[-1] == pytest.approx(costs.mean(), rel=1e-9)


def open_view(network, flat, population, index: int) -> np.ndarray:
    return network.moved(flat - network.flat).mean_gradient([population.take(np.array([index]))])


def test_an_untrained_network_listens_once_and_regression_never(train_small):
    assert len(explain_run(train_small().run, step=0).listening) == 1
    assert explain_run(train_small("targets", loss="squared_error").run).listening == ()


def test_costs_are_spread_as_they_are(train_small):
    explanation = explain_run(train_small().run, 2)
    costs, spread = explanation.pulls.costs, explanation.spread
    assert spread.counts.sum() == len(costs)
    assert spread.quantiles[[0, 2, -1]].tolist() == pytest.approx([costs.min(), np.median(costs), costs.max()])
    for fraction, carried in zip(spread.top_fractions, spread.carried, strict=True):
        top = sorted(costs, reverse=True)[: round(fraction * len(costs))]
        assert carried == pytest.approx(sum(top) / sum(costs))
    assert explanation.quantile == pytest.approx(np.mean(costs < explanation.example.cost))


@pytest.mark.parametrize("costs", [[0.0], [0.0, 0.0, 0.0], [1.0], [0.0, 5.0], [3.0, 3.0]])
def test_costs_that_are_zero_or_all_equal_are_spread_too(costs):
    spread = spread_costs(np.array(costs))
    assert spread.counts.sum() == len(costs)
    assert np.all(np.diff(spread.edges) > 0)
    costliest_half = sorted(costs, reverse=True)[: (len(costs) + 1) // 2]
    assert spread.carried[-1] == pytest.approx(sum(costliest_half) / (sum(costs) or 1))


@pytest.mark.parametrize(
    ("arguments", "error", "fragments"),
    [
        ({"example": 96}, ConfigError, "no example 96 in training, which has 96; choose one from 0 to 95"),
        ({"example": -1}, ConfigError, "no example -1"),
        ({"neuron": (4, 0)}, ConfigError, "no layer 4 .* the layers 1 to 3"),
        ({"neuron": (0, 0)}, ConfigError, "no layer 0"),
        ({"neuron": (2, 4)}, ConfigError, "layer 2 has no neuron 4; it has the neurons 0 to 3"),
        ({"step": 999}, CheckpointError, r"no checkpoint of step 999; it has: \d+, "),
        ({"data": "train"}, DataError, "no data 'train'; did you mean training"),
        ({"data": "missing.npz"}, DataError, "'missing.npz' does not exist"),
    ],
)
def test_mistakes_are_told_with_what_is_possible(train_small, arguments, error, fragments):
    with pytest.raises(error, match=fragments):
        explain_run(train_small().run, **arguments)


def test_a_run_without_validation_part_says_so(train_small):
    with pytest.raises(DataError, match="trained without validation data; use --data training or a file"):
        explain_run(train_small(validation=0.0).run, data="validation")
