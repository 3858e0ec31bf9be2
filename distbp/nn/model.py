"""What distbp asks of a model, so that a user's own gradient function can take the network's place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.nn.layout import Layout

Views = Mapping[str, NDArray]

IGNORED = -100
"""The class of a place in a sequence that is not to be learned, as in PyTorch."""


class Sums(NamedTuple):
    """Sums over some examples. The average is taken later, once, over the whole batch.

    loss: sum of the losses. num_examples: how many were added, of examples or of places in sequences; the average
    divides by their total. correct: how many were classified correctly; 0 in regression, and where it was not asked.
    num_judged: what `correct` is a share of, where that is not num_examples: the places of sequences.
    weight: where examples have weights, their sum: the loss and what is correct are weighted, and divided by it.
    """

    loss: float
    num_examples: int
    correct: float = 0
    num_judged: float | None = None
    weight: float | None = None

    @property
    def divisor(self) -> float:
        """What the average divides by."""
        return self.num_examples if self.weight is None else self.weight

    @property
    def num_answers(self) -> float:
        """What `correct` is a share of."""
        return self.divisor if self.num_judged is None else self.num_judged


class Model(Protocol):
    """A differentiable function of a flat parameter vector.

    An object is used by one thread at a time. It may keep scratch memory between calls, but nothing that changes a
    result: every method is a pure function of its arguments. The two methods that return Sums get a last argument
    `weights`, (B,) float64, only where examples have weights.

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
