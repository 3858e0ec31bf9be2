"""All the examples that are averaged over: one part of a run's data, with what a person sees of each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from distbp.config import Recipe
from distbp.data import Schema
from distbp.explain.network import Batch
from distbp.nn.streams import epoch_order
from distbp.protocol.examples import Examples
from distbp.protocol.planning import step_order, steps_per_epoch

CHUNK = 1024
MOST_EXAMPLES = 20_000
MOST_WORK = 1e10  # parameters times examples of one part of an explanation: seconds, not minutes


def affordable(num_parameters: int, at_least: int) -> int:
    """Return how many examples may pass through a network of that size for one part of an explanation."""
    return max(at_least, int(MOST_WORK / num_parameters))


@dataclass(frozen=True, eq=False)
class Population:
    """n examples with numbers 0 .. n - 1. name: "training", "validation", or the source they were read from.

    locate_batch: gives the examples of a step's batch, where the training data are in blocks.
    """

    name: str
    schema: Schema
    dtype: str
    examples: Examples
    locate_batch: Callable[[int], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def is_weighted(self) -> bool:
        """Whether some examples count more than others: by a column of the data, or, in training, by their class."""
        return self.examples.weights is not None

    def take(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        """Return inputs (B, I), the very numbers that training sees, as float64, and y (B,) or (B, O)."""
        x, y = self._ready.take(indices, self.dtype)
        return x.astype(np.float64), y if y.ndim == 1 else y.astype(np.float64)

    def take_judged(self, indices: NDArray[np.int64]) -> Batch:
        """Return the same, and the weights (B,) if examples have some."""
        return (*self.take(indices), *((self.weights(indices),) if self.is_weighted else ()))

    def weights(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what each of some examples counts in the average, (B,): 1 where all count the same."""
        weights = self.examples.take_weights(indices)
        return np.ones(len(indices)) if weights is None else weights

    def targets(self, index: int) -> NDArray[np.float64]:
        """Return what a regression should answer for one example, (O,), in the units of the data."""
        return np.array(self.examples.y[self.examples.rows[index]], np.float64)

    def chunks(self, indices: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield all of `indices` in batches of bounded size, with their weights."""
        for start in range(0, len(indices), CHUNK):
            yield self.take_judged(indices[start : start + CHUNK])

    def inputs(self, index: int) -> NDArray:
        """Return one example's features as stored, in the data's input shape; of a table its inputs."""
        if self.schema.columns is not None:
            prepared: NDArray = self.take(np.array([index]))[0][0]
            return prepared
        return np.asarray(self.examples.x[self.examples.rows[index]]).reshape(self.schema.input_shape)

    def label(self, index: int) -> str | int | bool | None:
        """Return the label of one example, None in regression."""
        if self.schema.classes is None:
            return None
        return self.schema.classes[int(self.examples.y[self.examples.rows[index]])]

    def name_output(self, number: int) -> str:
        """Return what an output stands for: a class, a target column, or just its number."""
        names = self.schema.classes or self.schema.target_names
        return str(number if names is None else names[number])

    def name_input(self, number: int) -> str:
        """Return what an input stands for: a column, or its place in the input."""
        if self.schema.feature_names is not None:
            return self.schema.feature_names[number]
        place = np.unravel_index(number, self.schema.input_shape)
        return ",".join(str(int(index)) for index in place)

    def classes(self) -> NDArray[np.int64]:
        """Return the class numbers (n,) of all examples."""
        return self.examples.y[self.examples.rows]

    def sample(self, num_parameters: int) -> NDArray[np.int64]:
        """Return the examples to average over: all, or an evenly spaced part of them where all would take long."""
        most = min(MOST_EXAMPLES, affordable(num_parameters, at_least=1000))
        if len(self) <= most:
            return np.arange(len(self))
        return np.linspace(0, len(self) - 1, most).astype(np.int64)

    @cached_property
    def _ready(self) -> Examples:
        return self.examples.ready(self.dtype)


def next_batch(population: Population, recipe: Recipe, step: int) -> NDArray[np.int64]:
    """Return the mini-batch (ascending) that training takes after `step` steps; of other data, one of that size."""
    if population.locate_batch is not None:
        return population.locate_batch(step)
    if population.name == "training":
        order = step_order(recipe, step, len(population))
        return np.sort(epoch_order(recipe.seed, order.epoch, len(population))[order.start : order.stop])
    return np.sort(epoch_order(recipe.seed, 0, len(population))[: recipe.global_batch_size])


def epoch_batches(population: Population, recipe: Recipe, step: int, limit: int) -> list[NDArray[np.int64]]:
    """Return the first `limit` mini-batches, each ascending, of the epoch that `step` belongs to."""
    size = recipe.global_batch_size
    if population.locate_batch is not None:
        num_steps = steps_per_epoch(recipe, len(population))
        first = step // num_steps * num_steps
        return [population.locate_batch(first + number) for number in range(min(limit, num_steps))]
    epoch = step_order(recipe, step, len(population)).epoch if population.name == "training" else 0
    order = epoch_order(recipe.seed, epoch, len(population))
    return [np.sort(order[start : start + size]) for start in range(0, len(order), size)][:limit]
