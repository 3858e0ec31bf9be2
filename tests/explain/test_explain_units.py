"""Weights and scaled targets: the averages are the steps that training takes, and numbers are told as elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, explain_run, load_run, train
from distbp.__main__ import main
from distbp.explain.costs import spread_costs

pytestmark = pytest.mark.slow

EXACT = {"rel": 1e-9, "abs": 1e-12}
RATE = 0.05
SETTINGS = {
    "plain": {},
    "weight": {"weight": "asked"},
    "class-weights": {"target": "kind", "class_weights": "balanced"},
    "named-classes": {"target": "kind", "class_weights": {"rare": 7.5}},
    "both": {"target": "kind", "weight": "asked", "class_weights": "balanced"},
    "zeros": {"weight": "zeros"},
    "scaled": {"target": "price", "target_scaling": "standard"},
    "two-scaled": {"target": ["price", "rent"], "target_scaling": "standard"},
    "scaled-weight": {"target": ["price", "rent"], "target_scaling": "standard", "weight": "asked"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 rows: four features, a class, two numbers to predict in unlike units, and two columns of weights."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((90, 4))
    kind = np.where(features[:, 0] + 0.4 * rng.standard_normal(90) > 0.9, "rare", "often")
    price = 250_000 + 60_000 * features[:, 1] + 9_000 * rng.standard_normal(90)
    rent = 7 + 0.5 * features[:, 2] + 0.1 * rng.standard_normal(90)
    asked, zeros = rng.uniform(0.1, 5, 90), (np.arange(90) >= 45) * 2.5
    path = tmp_path_factory.mktemp("units") / "table.csv"
    lines = ["a,b,c,d,asked,zeros,kind,price,rent"]
    rows = zip(features, asked, zeros, kind, price, rent, strict=True)
    lines += [",".join(map(str, [*row, w, z, k, p, r])) for row, w, z, k, p, r in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def train_on(table: Path) -> Callable[..., str]:
    """Trains with plain SGD in float64, with a checkpoint after every step; each setting once. Returns the run."""
    done: dict[str, str] = {}

    def call(name: str) -> str:
        data = {"target": "kind", **SETTINGS[name]}
        others = {"a", "b", "c", "d", data.get("weight")} | set(np.atleast_1d(data["target"]))
        ignored = {column: "ignore" for column in ("asked", "zeros", "kind", "price", "rent") if column not in others}
        recipe = Recipe.model_validate(
            {
                "data": {"source": str(table), "validation": 0.2, "columns": ignored, **data},
                "model": {"hidden": [5, 4], "activation": "tanh"},
                "optimizer": {"learning_rate": RATE, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None},
                "schedule": {"kind": "constant"},
                "global_batch_size": 20,
                "microbatch_size": 7,
                "dtype": "float64",
                "epochs": 2,
            }
        )
        if name not in done:
            placement = Placement(storage=str(table.parent), workers=1, checkpoint_every_steps=1, keep_checkpoints=99)
            done[name] = train(recipe, placement, name=name).run
        return done[name]

    return call


def flat(run: str, step: int) -> np.ndarray:
    return np.concatenate([tensor.ravel() for tensor in load_run(run, step).parameters.values()])


def own_gradients(explanation, indices) -> np.ndarray:
    """Return the gradient of each example, (n, num_parameters), from what the page shows of it alone."""
    layers = range(1, explanation.network.num_layers + 1)
    views = [explanation.view(int(index)) for index in indices]
    parts = [[(v.weight_nudges(layer).ravel(), v.bias_nudges(layer)) for layer in layers] for v in views]
    return -np.array([np.concatenate([part for pair in of_one for part in pair]) for of_one in parts])


@pytest.mark.parametrize("step", [0, 3, 5])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_averaged_nudges_are_the_step_that_training_takes(train_on, name, step):
    run = train_on(name)
    explanation = explain_run(run, 2, step=step)
    taken = flat(run, step + 1) - flat(run, step)
    assert np.abs(taken).max() > 0
    assert (-RATE * explanation.batch.gradient).tolist() == pytest.approx(taken.tolist(), **EXACT)
    members = explanation.batch.indices
    weights = np.array([explanation.view(int(index)).weight for index in members])
    mean = weights @ own_gradients(explanation, members) / weights.sum()
    assert (-RATE * mean).tolist() == pytest.approx(taken.tolist(), **EXACT)


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_are_those_of_the_table_times_those_of_the_class(train_on, table, name):
    explanation = explain_run(train_on(name), 2)
    population, data = explanation.population, SETTINGS[name]
    rows = population.examples.rows
    cells = [line.split(",") for line in table.read_text().splitlines()]
    expected = np.ones(len(rows))
    if "weight" in data:
        expected = np.array([float(cells[row + 1][cells[0].index(data["weight"])]) for row in rows])
    if "class_weights" in data:
        kinds = np.array([cells[row + 1][6] for row in rows])
        counts = {kind: (kinds == kind).sum() for kind in ("rare", "often")}
        balanced = {kind: len(rows) / (2 * counts[kind]) for kind in counts}
        factors = balanced if data["class_weights"] == "balanced" else {"often": 1.0, **data["class_weights"]}
        expected = expected * [factors[kind] for kind in kinds]
    assert explanation.pulls.weights.tolist() == pytest.approx(expected[explanation.pulls.indices].tolist())
    assert population.is_weighted == (len(set(expected)) > 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_shares_add_up_and_count_with_the_weight(train_on, name):
    explanation = explain_run(train_on(name), 2)
    for pulls in (explanation.pulls, explanation.batch):
        single = own_gradients(explanation, pulls.indices)
        mean = pulls.weights @ single / pulls.weights.sum()
        assert pulls.gradient.tolist() == pytest.approx(mean.tolist(), **EXACT)
        shares = pulls.weights * (single @ mean) / (pulls.weights.sum() * (mean @ mean))
        assert pulls.shares.tolist() == pytest.approx(shares.tolist(), **EXACT)
        assert pulls.shares.sum() == pytest.approx(1)
        assert pulls.cost == pytest.approx(np.average(pulls.costs, weights=pulls.weights))
    assert explanation.own.shares[0] == pytest.approx(explanation.pulls.shares[2])
    table = explanation.table
    assert table.weights.tolist() == [explanation.view(int(index)).weight for index in table.examples]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_average_cost_of_held_out_examples_is_the_loss_that_is_told(train_on, name):
    explanation = explain_run(train_on(name), 1, data="validation")
    loss = load_run(explanation.run).evaluate().loss
    assert explanation.pulls.cost == pytest.approx(loss, rel=1e-9)
    assert explanation.effect.before == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("name", ["scaled", "two-scaled", "scaled-weight"])
def test_numbers_to_predict_are_told_in_the_units_of_the_data(train_on, table, name):
    run = train_on(name)
    explanation = explain_run(run, 2)
    example, network = explanation.example, explanation.network
    columns = [7, 8][: len(example.wanted)]
    cells = table.read_text().splitlines()[example.row + 1].split(",")
    assert example.wanted.tolist() == [float(cells[column]) for column in columns]
    outputs = load_run(run).predict(str(table)).outputs[example.row]
    assert example.outputs.tolist() == pytest.approx(outputs.tolist(), rel=1e-9)
    assert example.cost == pytest.approx(((example.outputs - example.wanted) ** 2).sum())
    off = (example.outputs - example.wanted) / network.units.deviation
    assert example.trained_cost == pytest.approx((off**2).sum())
    assert example.nudges[-1].tolist() == pytest.approx((-2 * off).tolist())
    moved = network.moved(-RATE * explanation.batch.gradient)
    x, y = explanation.population.take(explanation.pulls.indices)
    wanted = np.array([explanation.population.targets(int(index)) for index in explanation.pulls.indices])
    told = ((network.tell(moved.model.predict(moved.parameters, x)) - wanted) ** 2).sum(axis=1)
    expected = np.average(told, weights=explanation.pulls.weights)
    assert explanation.effect.after_batch == pytest.approx(expected)
    assert np.abs(y).max() < 10  # what the network itself sees is scaled


def test_the_measured_costs_of_the_three_ways_follow_the_scaled_cost(train_on):
    explanation = explain_run(train_on("two-scaled"), 2)
    for way in explanation.neuron.ways:
        predicted, measured = way.together.cost_predicted[0], way.together.cost_measured[0]
        assert measured == pytest.approx(predicted, abs=2 * 0.01**2 * max(1.0, way.slope_length**2))


def test_an_example_without_weight_asks_but_does_not_count(train_on):
    explanation = explain_run(train_on("zeros"), 0)
    silent = np.flatnonzero(explanation.pulls.weights == 0)
    assert len(silent) > 10
    assert (explanation.pulls.lengths[silent] > 0).all()
    assert (explanation.pulls.shares[silent] == 0).all()
    assert not set(explanation.pulls.costliest(5)) & set(silent)


def test_what_costs_carry_counts_with_the_weight():
    spread = spread_costs(np.array([1.0, 2.0, 4.0]), np.array([6.0, 1.0, 0.0]))
    assert spread.carried.tolist() == pytest.approx([6 / 8, 6 / 8, 6 / 8, 6 / 8, 1.0])


@pytest.mark.parametrize(
    ("name", "said", "not_said"),
    [
        ("plain", None, ("Training scaled", "have weights")),
        ("both", "Examples have weights", ("Training scaled",)),
        ("two-scaled", "Training scaled the targets", ("have weights",)),
    ],
)
def test_the_terminal_and_json_say_so(train_on, capfd, name, said, not_said):
    run = train_on(name)
    assert main(["explain", run, "--example", "2"]) == 0
    out = capfd.readouterr().out
    assert said is None or said in out
    assert not any(words in out for words in not_said)
    assert max(map(len, out.splitlines()[1:])) <= 80
    assert main(["explain", run, "--example", "2", "--json"]) == 0
    document, explanation = json.loads(capfd.readouterr().out), explain_run(run, 2)
    assert document["data"]["is_weighted"] == (name == "both")
    assert document["example"]["weight"] == explanation.example.weight
    assert (document["data"]["target_units"] is None) == (name != "two-scaled")
    if name == "two-scaled":
        units = document["data"]["target_units"]
        assert units["names"] == ["price", "rent"]
        assert 200_000 < units["mean"][0] < 300_000
        assert document["example"]["outputs"] == explanation.example.outputs.tolist()
