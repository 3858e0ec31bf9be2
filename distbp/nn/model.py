"""What distbp asks of a model, so that a user's own gradient function can take the network's place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.nn.layout import Layout

Views = Mapping[str, NDArray]


class Sums(NamedTuple):
    """Sums over some examples. The average is taken later, once, over the whole batch.

    loss: sum of the per-example losses. num_examples: how many were added; the average divides by their total.
    correct: number of examples classified correctly; 0 in regression, and where it was not asked for.
    """

    loss: float
    num_examples: int
    correct: int = 0


class Model(Protocol):
    """A differentiable function of a flat parameter vector.

    An object is used by one thread at a time. It may keep scratch memory between calls, but nothing that changes a
    result: every method is a pure function of its arguments.

    Shape legend: B examples of one microbatch, I inputs, O outputs.
    """

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters."""
        ...

    def init(self, parameters: Views, rng: np.random.Generator) -> None:
        """Write initial values into `parameters`."""
        ...

    def gradient_sums(
        self, parameters: Views, x: NDArray, y: NDArray, gradient: Views, rng: np.random.Generator
    ) -> Sums:
        """Overwrite `gradient` with the sum over the examples of dC/dparameter and return their loss sum and number.

        x: (B, I). y: (B,) int64 classes or (B, O) targets. `rng` is keyed to this microbatch of this step.
        """
        ...

    def loss_sums(self, parameters: Views, x: NDArray, y: NDArray) -> Sums:
        """Return loss, number and correct predictions for an evaluation: without dropout, without a gradient."""
        ...

    def predict(self, parameters: Views, x: NDArray) -> NDArray:
        """Return (B, O): a probability or score per class, or a value per target."""
        ...
