"""explain_run(): from a run, a checkpoint and an example to everything that can be shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.config import Recipe
from distbp.errors import ConfigError
from distbp.explain.averages import BatchFan, StepEffect, WishTable, fan_batches, tabulate_wishes, try_step
from distbp.explain.costs import CostSpread, spread_costs
from distbp.explain.example import ExampleView, nudge_layers, trace_example, want
from distbp.explain.listening import Listening, listen
from distbp.explain.network import Network
from distbp.explain.opening import draw_untrained, gather, open_network
from distbp.explain.population import Population, affordable, epoch_batches, next_batch
from distbp.explain.pulls import Pulls, measure_pulls
from distbp.explain.ways import NeuronView, view_neuron
from distbp.nn.blas import compute_exactly
from distbp.nn.schedules import learning_rate
from distbp.prediction.trained_run import TrainedRun, load_run
from distbp.protocol.planning import steps_per_epoch

MOST_BATCHES = 40
TABLE_EXAMPLES = 7


@dataclass(frozen=True, eq=False)
class Explanation:
    """What backpropagation does to one network: for one example, and for all of them together.

    run, step, digest: which checkpoint. population: the examples to which `example` belongs. neuron: the one chosen.
    pulls: how all examples pull on their average (or an even sample of them, see `is_sample`). own: how the explained
    example pulls on the same average (n = 1); if it is not in the sample, its share is what it would have there.
    batch: how the examples of a mini-batch pull on its own average. fan: the mini-batches of an epoch against all.
    listening: what becomes of this network and of the untrained one on one class only; empty in regression. Where
    examples have weights, they count in every average as in training.
    """

    run: str
    step: int
    digest: str
    recipe: Recipe
    network: Network
    population: Population
    example: ExampleView
    neuron: NeuronView
    pulls: Pulls
    own: Pulls
    batch: Pulls
    fan: BatchFan
    effect: StepEffect
    table: WishTable
    spread: CostSpread
    listening: tuple[Listening, ...]

    @property
    def is_sample(self) -> bool:
        """Whether averages over "all" examples are in fact over a part of them, because all would take long."""
        return len(self.pulls.indices) < len(self.population)

    @cached_property
    def quantile(self) -> float:
        """The share of the examples that cost less than the one explained."""
        return float(np.mean(self.pulls.costs < self.example.cost))

    def view(self, index: int) -> ExampleView:
        """Return what another example does to the same network."""
        return view_example(self.network, self.population, index)

    def view_neuron(self, example: ExampleView, layer: int, neuron: int, limit: int | None = None) -> NeuronView:
        """Return the three ways to raise any neuron of layer 1 .. L for any example; `limit` levers of each way."""
        return view_neuron(example, self.population.take(np.array([example.index]))[1], layer, neuron, limit)

    def pull(self, index: int) -> Pulls:
        """Return how any example pulls on the average of all, with its share as if it were one of them."""
        return _pull_of_one(self.network, self.population, index, self.pulls)


def explain_run(
    run: str,
    example: int = 0,
    *,
    step: int | Literal["final", "best"] = "final",
    data: str = "training",
    neuron: tuple[int, int] | None = None,
) -> Explanation:
    """Return what backpropagation does to the network of a run, for one example and for all of them.

    example: the number, from 0, of an example in `data`: "training" or "validation", the run's own parts, or a source
    like `recipe.data.source`. step: as in load_run; 0 is the untrained network. neuron: (layer 1 .. L, number from 0),
    the one that is raised in three ways; None: the wanted output.

    Raises ConfigError for an example or neuron that is not there, and for a model that is not distbp's own network;
    DataError for data that cannot be read; CheckpointError; DivergedError for a network with NaN in it.
    """
    trained = load_run(run, step)
    network = open_network(trained)
    population = gather(trained, data)
    _check_example(example, population)
    return compute_exactly(lambda: _explain(trained, network, population, example, neuron))


def parse_neuron(text: str) -> tuple[int, int]:
    """Return the neuron that a text such as 2:17 names, as `explain_run` takes it. Raises ConfigError."""
    layer, _, number = text.partition(":")
    if not all(part.isascii() and part.isdigit() for part in (layer, number)):
        raise ConfigError(
            f"neuron={text!r} is not a neuron; expected LAYER:J such as 1:17, layers from 1 and neurons from 0"
        )
    return int(layer), int(number)


def view_example(network: Network, population: Population, index: int) -> ExampleView:
    """Return what one example does to the network."""
    x, y = population.take(np.array([index]))
    activations, z, deltas, cost = trace_example(network, x, y)
    wanted, classes = want(y, network.sizes[-1]), population.schema.classes
    is_scaled = network.units is not None
    return ExampleView(
        index=index,
        row=int(population.examples.rows[index]),
        inputs=population.inputs(index),
        label=population.label(index),
        predicted=None if classes is None else classes[int(activations[-1].argmax())],
        weight=float(population.weights(np.array([index]))[0]),
        wanted=population.targets(index) if is_scaled else wanted,
        cost=float(network.told_losses(x, y)[0]) if is_scaled else cost,
        trained_cost=cost,
        activations=activations,
        z=z,
        deltas=deltas,
        nudges=nudge_layers(network, deltas, activations[-1] - wanted),
        network=network,
    )


def _explain(
    trained: TrainedRun, network: Network, population: Population, index: int, neuron: tuple[int, int] | None
) -> Explanation:
    recipe, example = trained.config.recipe, view_example(network, population, index)
    layer, number = _choose_neuron(neuron, example)
    everyone = population.sample(len(network.flat))
    everyones_batches = list(population.chunks(everyone))
    mean = network.mean_gradient(everyones_batches)
    pulls = measure_pulls(network, everyone, everyones_batches, mean)
    batch = _pull_among_themselves(network, population, next_batch(population, recipe, trained.step))
    num_batches = min(MOST_BATCHES, affordable(len(network.flat) * recipe.global_batch_size, at_least=4))
    fan = (population.take_judged(members) for members in epoch_batches(population, recipe, trained.step, num_batches))
    shown = _choose_for_table(index, batch)
    rate = learning_rate(recipe, trained.step, steps_per_epoch(recipe, len(population)))
    return Explanation(
        run=trained.run.url,
        step=trained.step,
        digest=trained.digest,
        recipe=recipe,
        network=network,
        population=population,
        example=example,
        neuron=view_neuron(example, population.take(np.array([index]))[1], layer, number),
        pulls=pulls,
        own=_pull_of_one(network, population, index, pulls),
        batch=batch,
        fan=fan_batches(network, fan, mean),
        effect=try_step(network, everyones_batches, batch.gradient, mean, rate),
        table=tabulate_wishes(
            network,
            [population.take(shown[i : i + 1]) for i in range(len(shown))],
            shown,
            population.weights(shown),
            batch.gradient,
            mean,
        ),
        spread=spread_costs(pulls.costs, pulls.weights),
        listening=_listen(trained, network, population, index),
    )


def _pull_among_themselves(network: Network, population: Population, members: NDArray[np.int64]) -> Pulls:
    batches = list(population.chunks(members))
    return measure_pulls(network, members, batches, network.mean_gradient(batches))


def _pull_of_one(network: Network, population: Population, index: int, pulls: Pulls) -> Pulls:
    members, total = np.array([index]), float(pulls.weights.sum())
    return measure_pulls(network, members, [population.take_judged(members)], pulls.gradient, total)


def _choose_for_table(index: int, batch: Pulls) -> NDArray[np.int64]:
    """Return the example explained and others of the mini-batch, from the one that asks most to the median.

    What it asks counts with its weight.
    """
    order = batch.indices[np.argsort(-batch.lengths * batch.weights, kind="stable")]
    others = order[order != index]
    places = np.linspace(0, (len(others) - 1) // 2, min(TABLE_EXAMPLES - 1, len(others))).astype(np.int64)
    return np.array([index, *others[np.unique(places)]]) if len(others) else np.array([index])


def _listen(trained: TrainedRun, network: Network, population: Population, index: int) -> tuple[Listening, ...]:
    if population.schema.classes is None:
        return ()
    number = int(population.classes()[index])
    starts: Sequence[Network] = (network, draw_untrained(trained)) if trained.step > 0 else (network,)
    return tuple(listen(start, population, trained.config.recipe, number) for start in starts)


def _choose_neuron(neuron: tuple[int, int] | None, example: ExampleView) -> tuple[int, int]:
    network = example.network
    if neuron is None:
        return network.num_layers, int(example.wanted.argmax()) if example.label is not None else 0
    layer, number = neuron
    if not 1 <= layer <= network.num_layers:
        raise ConfigError(
            f"there is no layer {layer} with neurons to raise; the network has the layers 1 to {network.num_layers}"
        )
    if not 0 <= number < network.sizes[layer]:
        raise ConfigError(f"layer {layer} has no neuron {number}; it has the neurons 0 to {network.sizes[layer] - 1}")
    return layer, number


def _check_example(example: int, population: Population) -> None:
    if not 0 <= example < len(population):
        raise ConfigError(
            f"there is no example {example} in {population.name}, which has {len(population):,}; "
            f"choose one from 0 to {len(population) - 1}"
        )
