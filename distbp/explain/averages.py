"""The average of many wishes: the lesson's table, the mini-batch against all examples, and what a step really does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.explain.network import Batch, Network
from distbp.explain.pulls import average
from distbp.nn.vectors import cosine


@dataclass(frozen=True)
class ParameterName:
    """A weight from neuron `before` of the layer before to `neuron` of `layer`, or that neuron's bias (None)."""

    layer: int
    neuron: int
    before: int | None


@dataclass(frozen=True, eq=False)
class WishTable:
    """Examples across, weights down: the R weights and biases whose average nudges are strongest, layer by layer.

    examples: (E,) indices, the one explained first. weights: (E,) what each counts. wishes: (R, E), its own -dC/dw.
    batch_average, all_average: (R,) the weighted averages over the mini-batch and over all examples.
    """

    names: tuple[ParameterName, ...]
    examples: NDArray[np.int64]
    weights: NDArray
    wishes: NDArray
    batch_average: NDArray
    all_average: NDArray


@dataclass(frozen=True, eq=False)
class BatchFan:
    """M mini-batches of one epoch against all examples; batches are in the order in which SGD takes them.

    lengths, agreements: (M,) of each batch's average gradient, and its cosine to that of all.
    """

    lengths: NDArray
    agreements: NDArray


@dataclass(frozen=True)
class StepEffect:
    """What one plain step (no momentum, no decay) does to the average cost of all examples, measured.

    Costs are in the units of the data, and count with the weights of the examples.

    learning_rate: of the recipe at this step. before: the cost now. after_batch: the cost after a step along the
    mini-batch's average. after_all: after a step along the average of all examples. batch_agreement: the cosine of
    the two averages.
    """

    learning_rate: float
    before: float
    after_batch: float
    after_all: float
    batch_agreement: float


def tabulate_wishes(
    network: Network,
    batches: Sequence[Batch],
    examples: NDArray[np.int64],
    weights: NDArray,
    batch_mean: NDArray,
    all_mean: NDArray,
) -> WishTable:
    """Return the table for `examples`; `batches` holds the same, each as a batch of one, of which no weight is told."""
    rows = _strongest(network, all_mean, num_rows=12)
    wishes = [-network.mean_gradient([batch])[rows] for batch in batches]
    return WishTable(
        names=tuple(name_parameter(network, int(row)) for row in rows),
        examples=examples,
        weights=weights,
        wishes=np.stack(wishes, axis=1),
        batch_average=-batch_mean[rows],
        all_average=-all_mean[rows],
    )


def name_parameter(network: Network, place: int) -> ParameterName:
    """Return which parameter lies at a place of the flat vector."""
    for number, entry in enumerate(network.model.layout.entries):
        if place < entry.size:
            layer, is_bias = number // 2 + 1, number % 2 == 1
            neuron, before = (place, None) if is_bias else divmod(place, entry.shape[1])
            return ParameterName(layer, neuron, before)
        place -= entry.size
    raise IndexError(f"the network has no parameter {place} places after its last")


def fan_batches(network: Network, batches: Iterable[Batch], all_mean: NDArray) -> BatchFan:
    """Return how the average gradient of each batch compares with that of all examples."""
    means = [network.mean_gradient([batch]) for batch in batches]
    return BatchFan(
        lengths=np.array([np.linalg.norm(mean) for mean in means]),
        agreements=np.array([cosine(mean, all_mean) for mean in means]),
    )


def try_step(
    network: Network, examples: Sequence[Batch], batch_mean: NDArray, all_mean: NDArray, learning_rate: float
) -> StepEffect:
    """Return what a step along each average does to the cost of `examples`."""
    return StepEffect(
        learning_rate=learning_rate,
        before=_cost(network, examples),
        after_batch=_cost(network.moved(-learning_rate * batch_mean), examples),
        after_all=_cost(network.moved(-learning_rate * all_mean), examples),
        batch_agreement=cosine(batch_mean, all_mean),
    )


def _strongest(network: Network, mean: NDArray, num_rows: int) -> NDArray[np.int64]:
    """Return the places of the strongest parameters of each layer, the same number of each, strongest first."""
    per_layer = max(1, num_rows // network.num_layers)
    entries, found, start = network.model.layout.entries, [], 0
    for weight, bias in zip(entries[::2], entries[1::2], strict=True):
        stop = start + weight.size + bias.size
        found.append(start + np.argsort(-np.abs(mean[start:stop]), kind="stable")[:per_layer])
        start = stop
    return np.concatenate(found)


def _cost(network: Network, examples: Sequence[Batch]) -> float:
    costs = np.concatenate([network.told_losses(x, y) for x, y, *_ in examples])
    weights = [weight for _, _, *weight in examples]
    return average(costs, np.concatenate([part[0] for part in weights]) if weights[0] else np.ones(len(costs)))
