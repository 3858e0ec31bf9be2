"""Every number of an explanation against finite differences of a network written by hand, or loops over examples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from loops import SQUASH, activate_outputs, copy_parameters, cost_of, layer_z, run_from, slope

from distbp import load_run
from distbp.explain import explain_run
from distbp.explain.ways import STEP

pytestmark = pytest.mark.slow

CLOSE = {"rel": 1e-6, "abs": 1e-8}
NETWORKS = [
    pytest.param((data, {"loss": loss, "activation": activation}), id=f"{activation}-{loss}-{data}")
    for activation in ("sigmoid", "tanh", "relu", "gelu", "identity")
    for data, loss in (("classes", "cross_entropy"), ("classes", "squared_error"), ("targets", "squared_error"))
]


class ByHand:
    """One example of a run, computed by loops."""

    def __init__(self, run: str, index: int):
        self.explanation = explain_run(run, index)
        trained = load_run(run)
        self.model = trained.config.recipe.model
        self.is_classification = trained.schema.classes is not None
        self.parameters = copy_parameters(trained.parameters)
        self.x = self.explanation.population.take(np.array([index]))[0][0]
        self.wanted = self.explanation.example.wanted
        self.num_layers = len(self.parameters) // 2

    def run_from(self, layer: int, a) -> tuple[list, list]:
        return run_from(self.parameters, layer, a, self.model, self.is_classification)

    def cost_from(self, layer: int, a) -> float:
        outputs = a if layer == self.num_layers else self.run_from(layer, a)[0][-1]
        return cost_of(outputs, self.wanted, self.model)

    def cost(self) -> float:
        return self.cost_from(0, self.x)

    def cost_at_z(self, layer: int, z) -> float:
        """Return the cost when one layer's z are given: as activations of a network that begins with them."""
        is_last = layer == self.num_layers
        a = activate_outputs(z, self.model, self.is_classification) if is_last else None
        return self.cost_from(layer, a if is_last else [SQUASH[self.model.activation](value) for value in z])


@pytest.fixture(params=NETWORKS, scope="module")
def by_hand(request, train_small) -> ByHand:
    data, model = request.param
    return ByHand(train_small(data, **model).run, index=3)


def expect(actual, expected) -> None:
    assert np.asarray(actual).shape == np.shape(expected)
    assert np.asarray(actual).ravel().tolist() == pytest.approx(np.asarray(expected).ravel().tolist(), **CLOSE)


def test_activations_outputs_and_cost_are_those_of_the_network(by_hand):
    example = by_hand.explanation.example
    activations, z = by_hand.run_from(0, by_hand.x)
    expect(example.activations[0], by_hand.x)
    for layer in range(1, by_hand.num_layers + 1):
        expect(example.activations[layer], activations[layer - 1])
        expect(example.z[layer], z[layer - 1])
    assert example.cost == pytest.approx(by_hand.cost(), rel=1e-12)


def test_deltas_are_the_slopes_of_the_cost_along_z(by_hand):
    example = by_hand.explanation.example
    for layer in range(1, by_hand.num_layers + 1):
        z = example.z[layer].copy()
        expect(example.deltas[layer], slope(lambda layer=layer, z=z: by_hand.cost_at_z(layer, z), z))


def test_nudges_are_minus_the_slopes_of_the_cost_along_the_activations(by_hand):
    example = by_hand.explanation.example
    for layer in range(by_hand.num_layers):
        a = example.activations[layer].copy()
        expect(example.nudges[layer], -slope(lambda layer=layer, a=a: by_hand.cost_from(layer, a), a))
        expect(example.wishes(layer + 1).sum(axis=0), example.nudges[layer])


def test_nudges_of_the_outputs_are_in_proportion_to_how_far_off_they_are(by_hand):
    example = by_hand.explanation.example
    off = example.outputs - example.wanted
    if by_hand.model.loss == "squared_error":
        a = example.outputs.copy()
        expect(example.nudges[-1], -slope(lambda: by_hand.cost_from(by_hand.num_layers, a), a))
        expect(example.nudges[-1], -2 * off)
    else:
        expect(example.nudges[-1], -example.deltas[-1])
        expect(example.nudges[-1], -off)


def test_weight_nudges_are_an_outer_product_and_minus_the_gradient(by_hand):
    example = by_hand.explanation.example
    for layer in range(1, by_hand.num_layers + 1):
        weight, bias = by_hand.parameters[f"{layer - 1}.weight"], by_hand.parameters[f"{layer - 1}.bias"]
        expect(example.weight_nudges(layer), -slope(by_hand.cost, weight))
        expect(example.bias_nudges(layer), -slope(by_hand.cost, bias))
        assert np.linalg.matrix_rank(example.weight_nudges(layer)) <= 1
        nudges = np.abs(example.weight_nudges(layer))
        strongest = [nudges[place] for place in example.strongest_weights(layer, 5)]
        assert strongest == sorted(nudges.ravel(), reverse=True)[:5]


def test_the_wish_of_one_neuron_for_the_layer_before_goes_through_that_neuron_alone(by_hand):
    example = by_hand.explanation.example
    for layer in range(1, by_hand.num_layers + 1):
        for neuron in range(len(example.z[layer])):
            a = example.activations[layer - 1].copy()

            def cost(layer=layer, neuron=neuron, a=a) -> float:
                z = example.z[layer].copy()
                z[neuron] = layer_z(by_hand.parameters, layer, a)[neuron]
                return by_hand.cost_at_z(layer, z)

            expect(example.wishes(layer)[neuron], -slope(cost, a))


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_three_ways_are_tried_out_on_the_real_network(by_hand, layer):
    example, neuron = by_hand.explanation.example, 1
    view = by_hand.explanation.view_neuron(example, layer, neuron)
    weight, bias = by_hand.parameters[f"{layer - 1}.weight"], by_hand.parameters[f"{layer - 1}.bias"]
    before = example.activations[layer - 1].copy()

    def look() -> tuple[float, float]:
        activations, _ = by_hand.run_from(layer - 1, before)
        return activations[0][neuron], cost_of(activations[-1], by_hand.wanted, by_hand.model)

    levers = {"bias": bias[neuron : neuron + 1], "weights": weight[neuron], "activations": before}
    start = look()
    for way in view.ways:
        place = levers[way.kind]
        slopes = slope(lambda: layer_z(by_hand.parameters, layer, before)[neuron], place)
        ranked = np.abs(slopes)[way.levers]
        assert ranked.tolist() == pytest.approx(sorted(np.abs(slopes), reverse=True), abs=1e-9)
        expect(way.slopes, slopes[way.levers])
        expect(way.values, place[way.levers])
        expect(way.slope_length, np.linalg.norm(slopes))
        along_activation = slope(lambda: look()[0], place)
        along_cost = slope(lambda: look()[1], place)
        for number, lever in enumerate(way.levers):
            change = STEP * (-1 if slopes[lever] < 0 else 1)
            place[lever] += change
            after = look()
            place[lever] -= change
            assert way.single.activation_measured[number] == pytest.approx(after[0] - start[0], abs=1e-12)
            assert way.single.cost_measured[number] == pytest.approx(after[1] - start[1], abs=1e-12)
            assert way.single.activation_predicted[number] == pytest.approx(along_activation[lever] * change, **CLOSE)
            assert way.single.cost_predicted[number] == pytest.approx(along_cost[lever] * change, **CLOSE)
        direction = STEP * slopes / max(np.linalg.norm(slopes), 1e-300)
        kept = place.copy()
        place += direction
        after = look()
        place[...] = kept
        assert way.together.activation_measured[0] == pytest.approx(after[0] - start[0], abs=1e-12)
        assert way.together.cost_measured[0] == pytest.approx(after[1] - start[1], abs=1e-12)
        assert way.together.activation_predicted[0] == pytest.approx(along_activation @ direction, **CLOSE)
        assert way.together.cost_predicted[0] == pytest.approx(along_cost @ direction, **CLOSE)


def single_gradients(by_hand) -> np.ndarray:
    """Return the gradients (n, num_parameters) of all examples, from each one's own nudges."""
    views = [by_hand.explanation.view(index) for index in range(len(by_hand.explanation.population))]
    return np.array(
        [
            np.concatenate(
                [
                    part.ravel()
                    for layer in range(1, by_hand.num_layers + 1)
                    for part in (-view.weight_nudges(layer), -view.bias_nudges(layer))
                ]
            )
            for view in views
        ]
    )


def test_the_average_is_the_mean_of_the_single_gradients_and_shares_are_of_it(by_hand):
    explanation, single = by_hand.explanation, single_gradients(by_hand)
    for pulls in (explanation.pulls, explanation.batch):
        members = single[pulls.indices]
        mean = members.mean(axis=0)
        expect(pulls.gradient, mean)
        expect(pulls.length, np.linalg.norm(mean))
        expect(pulls.lengths, np.linalg.norm(members, axis=1))
        expect(pulls.shares, [g @ mean / (len(members) * (mean @ mean)) for g in members])
        expect(pulls.agreements, [g @ mean / np.linalg.norm(g) / np.linalg.norm(mean) for g in members])
        assert pulls.shares.sum() == pytest.approx(1)
        expect(pulls.costs, [explanation.view(int(index)).cost for index in pulls.indices])
        assert pulls.shares[pulls.hardest(1)[0]] == pulls.shares.max()
        assert all(pulls.shares[place] < 0 for place in pulls.opposing(3))
    own, index = explanation.own, explanation.example.index
    expect([own.shares[0], own.agreements[0]], [explanation.pulls.shares[index], explanation.pulls.agreements[index]])


def test_the_table_holds_single_nudges_and_their_averages(by_hand):
    table, single = by_hand.explanation.table, single_gradients(by_hand)
    assert table.examples[0] == by_hand.explanation.example.index
    assert set(table.examples[1:]) <= set(by_hand.explanation.batch.indices)
    places = [place_of(by_hand, name) for name in table.names]
    expect(table.wishes, -single[table.examples][:, places].T)
    expect(table.batch_average, -single[by_hand.explanation.batch.indices][:, places].mean(axis=0))
    expect(table.all_average, -single[:, places].mean(axis=0))
    for layer, rows in itertools.groupby(table.names, key=lambda name: name.layer):
        tensors = [by_hand.parameters[f"{layer - 1}.{kind}"] for kind in ("weight", "bias")]
        start = sum(
            by_hand.parameters[f"{below}.{kind}"].size for below in range(layer - 1) for kind in ("weight", "bias")
        )
        averages = np.abs(single.mean(axis=0))[start : start + sum(tensor.size for tensor in tensors)]
        found = [averages[place_of(by_hand, name) - start] for name in rows]
        assert found == pytest.approx(sorted(averages, reverse=True)[: len(found)])


def place_of(by_hand, name) -> int:
    start = sum(
        by_hand.parameters[f"{layer}.{kind}"].size for layer in range(name.layer - 1) for kind in ("weight", "bias")
    )
    weight = by_hand.parameters[f"{name.layer - 1}.weight"]
    if name.before is None:
        return start + weight.size + name.neuron
    return start + name.neuron * weight.shape[1] + name.before


def test_batches_and_steps_are_what_they_are_called(by_hand):
    explanation, single = by_hand.explanation, single_gradients(by_hand)
    mean, size = single.mean(axis=0), explanation.recipe.global_batch_size
    assert len(explanation.fan.lengths) == -(-len(single) // size)
    batch_mean = single[explanation.batch.indices].mean(axis=0)
    own_place = int(np.argmin(np.abs(explanation.fan.lengths - np.linalg.norm(batch_mean))))
    expect(explanation.fan.lengths[own_place], np.linalg.norm(batch_mean))
    agreement = batch_mean @ mean / np.linalg.norm(batch_mean) / np.linalg.norm(mean)
    expect(explanation.fan.agreements[own_place], agreement)
    effect = explanation.effect
    expect(effect.batch_agreement, agreement)
    assert effect.learning_rate == 0.05
    for change, expected in ((0 * mean, effect.before), (mean, effect.after_all), (batch_mean, effect.after_batch)):
        expect(cost_after(by_hand, -0.05 * change), expected)


def cost_after(by_hand, change: np.ndarray) -> float:
    """Return the average cost of all examples with `change` added to the flat parameters, by loops."""
    flat = np.concatenate([tensor.ravel() for tensor in by_hand.parameters.values()]) + change
    parameters, start = {}, 0
    for name, tensor in by_hand.parameters.items():
        parameters[name] = flat[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size
    costs = []
    for index in range(len(by_hand.explanation.population)):
        x, y = by_hand.explanation.population.take(np.array([index]))
        wanted = np.eye(3)[y[0]] if y.ndim == 1 else y[0]
        outputs = run_from(parameters, 0, x[0], by_hand.model, by_hand.is_classification)[0][-1]
        costs.append(cost_of(outputs, wanted, by_hand.model))
    return float(np.mean(costs))
