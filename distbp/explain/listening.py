"""Listening to one class only: real steps of SGD in which every example is of the same class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distbp.config import Recipe
from distbp.explain.network import Network
from distbp.explain.population import Population, affordable
from distbp.nn.schedules import batch_scale
from distbp.nn.sgd import sgd
from distbp.nn.streams import epoch_order

NUM_STEPS = 100
RECORD_EVERY = 5
MOST_WATCHED = 2000


@dataclass(frozen=True, eq=False)
class Listening:
    """What becomes of a network that hears of one class only.

    class_number, label: of that class. steps: (T,) the steps after which the rest was recorded, 0 first.
    called: (T, O) for each class the share of the watched examples that the network takes for it. The watched examples
    are of all classes; num_watched: how many. accuracies, costs: (T,) over the same examples.
    num_heard: examples of the one class. batch_size: how many of them one step takes.
    """

    class_number: int
    label: str | int | bool
    steps: NDArray[np.int64]
    called: NDArray
    accuracies: NDArray
    costs: NDArray
    num_watched: int
    num_heard: int
    batch_size: int


def listen(network: Network, population: Population, recipe: Recipe, class_number: int) -> Listening:
    """Return what becomes of the network in NUM_STEPS steps on one class, with the recipe's own optimizer.

    The batch size is the recipe's, or smaller for a large network. The learning rate does not fall, and weights do not
    decay. Raises ValueError if there is no example of the class.
    """
    heard = np.flatnonzero(population.classes() == class_number)
    if len(heard) == 0:
        raise ValueError(f"no example of {population.name} is of class {class_number}")
    num_parameters = len(network.flat)
    num_watched = min(
        len(population), MOST_WATCHED, affordable(num_parameters * NUM_STEPS // RECORD_EVERY, at_least=200)
    )
    watched = np.linspace(0, len(population) - 1, num_watched).astype(np.int64)
    size = min(recipe.global_batch_size, len(heard), affordable(num_parameters * NUM_STEPS, at_least=8))
    x, y = population.take(watched)
    learner = replace(network, flat=network.flat.copy())
    rate, velocity = recipe.optimizer.learning_rate * batch_scale(recipe), np.zeros_like(learner.flat)
    records = [_record(learner, x, y)]
    for step in range(NUM_STEPS):
        gradient = learner.mean_gradient([population.take_judged(_draw(heard, recipe.seed, size, step))])
        sgd(learner.flat, velocity, gradient, rate, recipe.optimizer)
        if (step + 1) % RECORD_EVERY == 0:
            records.append(_record(learner, x, y))
    called, accuracies, costs = (np.array(column) for column in zip(*records, strict=True))
    label = (population.schema.classes or ())[class_number]
    steps = np.arange(0, NUM_STEPS + 1, RECORD_EVERY)
    return Listening(class_number, label, steps, called, accuracies, costs, num_watched, len(heard), size)


def _draw(heard: NDArray[np.int64], seed: int, size: int, step: int) -> NDArray[np.int64]:
    """Return the step's batch (ascending) of the examples in `heard`, shuffled anew in every pass over them."""
    epoch, place = divmod(step, len(heard) // size)
    return heard[np.sort(epoch_order(seed, epoch, len(heard))[place * size : (place + 1) * size])]


def _record(network: Network, x: NDArray, y: NDArray) -> tuple[NDArray, float, float]:
    """Return the share called each class (O,), the accuracy and the average cost."""
    predicted = network.model.predict(network.parameters, x).argmax(axis=1)
    called = np.bincount(predicted, minlength=network.sizes[-1]) / len(x)
    return called, float(np.mean(predicted == y)), float(network.losses(x, y).mean())
