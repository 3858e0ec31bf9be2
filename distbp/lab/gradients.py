"""Gradients as they are measured: the full one, mini-batches' beside it, and the exact noise among the examples.

Shape legend: N training examples, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.lab.noise import Noise, estimate_noise, exact_noise
from distbp.nn.mlp import MLP
from distbp.nn.model import Model
from distbp.nn.streams import Purpose, stream
from distbp.nn.vectors import cosine
from distbp.protocol.messages import WorkerTask
from distbp.protocol.supply import in_memory

CHUNK = 256
SMALL, BIG = 8, 64


@dataclass(frozen=True)
class Cosines:
    """Batches of `batch_size` against the full gradient: the mean cosine, its 10th and 90th percentile."""

    batch_size: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class GradientReading:
    """What the gradients at one point of training look like. estimated: from the norms of two batch sizes alone."""

    step: int
    error: float
    exact: Noise
    estimated: Noise
    cosines: tuple[Cosines, ...]


class GradientMeter:
    """Computes gradients over chosen training examples, in float64 sums over chunks of the model's own dtype.

    PyTorch modules compute as in evaluation, so that the gradient of one example is its own.
    """

    def __init__(self, task: WorkerTask):
        self._model: Model = task.model.build_calm()
        self._dtype = task.model.dtype
        self._train = in_memory(task.train).ready(self._dtype)
        self._buffer = np.empty(self._model.layout.num_parameters, self._dtype)

    @property
    def is_quick(self) -> bool:
        """Whether norms of single examples are cheap, as they are for distbp's own network."""
        return isinstance(self._model, MLP)

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self._train)

    def mean_gradient(self, parameters: NDArray, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean gradient over the examples `indices`, (P,)."""
        views, gradient = self._model.layout.views(parameters), self._model.layout.views(self._buffer)
        total = np.zeros(len(parameters))
        for chunk in _chunks(indices):
            x, y = self._train.take(chunk, self._dtype)
            self._model.gradient_sums(views, x, y, gradient, stream(0, Purpose.DROPOUT))
            for start, stop in self._model.layout.buffer_ranges():
                self._buffer[start:stop] = 0  # changes of buffers are no gradient
            total += self._buffer
        return total / len(indices)

    def squared_norms(self, parameters: NDArray, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return |g_i|^2 for the examples `indices`, (len(indices),); a user's own model is asked one by one."""
        views = self._model.layout.views(parameters)
        if not isinstance(self._model, MLP):
            return np.array([_square(self.mean_gradient(parameters, indices[i : i + 1])) for i in range(len(indices))])
        traces = (self._model.trace(views, *self._train.take(chunk, self._dtype)) for chunk in _chunks(indices))
        return np.concatenate([trace.squared_norms() for trace in traces])


def read_gradients(
    meter: GradientMeter,
    parameters: NDArray,
    step: int,
    error: float,
    batch_sizes: Sequence[int],
    num_draws: int,
    seed: int,
) -> GradientReading:
    """Return the exact noise over all examples, its estimate from two batch sizes, and cosines for `batch_sizes`.

    num_draws: random batches of each size, drawn without replacement.
    """
    everything = np.arange(meter.num_examples)
    full = meter.mean_gradient(parameters, everything)
    exact = exact_noise(meter.squared_norms(parameters, everything), _square(full))
    rng = np.random.default_rng((seed, step))
    big = min(BIG, meter.num_examples)
    small = max(1, min(SMALL, big // 2))
    estimated = estimate_noise(
        small,
        _mean_square(meter, parameters, small, num_draws * big // small, rng),
        big,
        _mean_square(meter, parameters, big, num_draws, rng),
    )
    cosines = tuple(_cosines(meter, parameters, full, size, num_draws, rng) for size in batch_sizes)
    return GradientReading(step, error, exact, estimated, cosines)


def _cosines(
    meter: GradientMeter, parameters: NDArray, full: NDArray, size: int, num_draws: int, rng: np.random.Generator
) -> Cosines:
    found = [
        cosine(meter.mean_gradient(parameters, _draw(meter, size, rng)), full)
        for _ in range(num_draws if size < meter.num_examples else 1)
    ]
    low, high = np.percentile(found, (10, 90))
    return Cosines(size, float(np.mean(found)), float(low), float(high))


def _mean_square(
    meter: GradientMeter, parameters: NDArray, size: int, num_draws: int, rng: np.random.Generator
) -> float:
    draws = (meter.mean_gradient(parameters, _draw(meter, size, rng)) for _ in range(num_draws))
    return float(np.mean([_square(gradient) for gradient in draws]))


def _draw(meter: GradientMeter, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.choice(meter.num_examples, size, replace=False))


def _square(vector: NDArray) -> float:
    return float(vector @ vector)


def _chunks(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]
