"""A model whose gradient costs next to nothing, or just time, to measure what a step costs besides the gradient."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from distbp.nn.layout import Entry, Layout
from distbp.nn.model import Sums, Views

GRADIENT = 1e-6


class FreeModel:
    """One vector of `size` parameters whose gradient is constant, and takes `pause_s` seconds but no core."""

    def __init__(self, num_outputs: int, size: int, pause_s: float):
        self.layout = Layout((Entry("w", (size,)),))
        self._num_outputs = num_outputs
        self._pause_s = pause_s

    def init(self, parameters: Views, rng: np.random.Generator) -> None:  # noqa: ARG002 - the same for any seed
        """Begin at zero."""
        parameters["w"][...] = 0

    def gradient_sums(
        self,
        parameters: Views,  # noqa: ARG002 - the gradient is the same everywhere
        x: NDArray,
        y: NDArray,  # noqa: ARG002
        gradient: Views,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> Sums:
        """Fill the gradient; that writes memory once, as little as any gradient could."""
        gradient["w"].fill(GRADIENT)
        time.sleep(self._pause_s)
        return Sums(0.0, len(x))

    def loss_sums(self, parameters: Views, x: NDArray, y: NDArray) -> Sums:  # noqa: ARG002
        """No loss."""
        return Sums(0.0, len(x))

    def predict(self, parameters: Views, x: NDArray) -> NDArray:
        """Return zeros, (B, O)."""
        return np.zeros((len(x), self._num_outputs), parameters["w"].dtype)


def build(num_inputs: int, num_outputs: int, size: int, pause_s: float = 0.0) -> FreeModel:  # noqa: ARG001 - as model.function is called
    """Return the model, as `model: {function: "free_model:build", options: {size: N}}` asks for it."""
    return FreeModel(num_outputs, size, pause_s)
