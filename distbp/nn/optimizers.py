"""From the recipe's optimizer to its update rule and the vectors that it keeps. A new optimizer is named here."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import NDArray

from distbp.config import Optimizer
from distbp.nn.adamw import adamw, shrink
from distbp.nn.sgd import decay, sgd

MOMENTS = {"sgd": ("velocity",), "adamw": ("first_moment", "second_moment")}
"""The state of each optimizer: vectors like the parameters, zero at the start, as checkpoints name them."""

Decays = Sequence[tuple[int, int, float]]


def add_decay(optimizer: Optimizer, gradient: NDArray, parameters: NDArray, decays: Decays, offset: int) -> None:
    """Add weight decay to the gradient where the optimizer takes it from there: SGD."""
    if optimizer.kind == "sgd":
        decay(gradient, parameters, decays, offset)


def update(
    optimizer: Optimizer,
    parameters: NDArray,
    moments: Sequence[NDArray],
    gradient: NDArray,
    step: int,
    learning_rate: float,
    decays: Decays,
    offset: int,
    before: Sequence[NDArray] | None = None,
) -> None:
    """Take one step in place; the gradient is used up. before: where moments are read, if not where they are written.

    step counts from 1. decays: (start, stop, weight decay) of ranges of the flat vector, for decay that is no part of
    the gradient. offset: where in the flat vector these arrays, (n,), begin.
    """
    if optimizer.kind == "sgd":
        sgd(parameters, moments[0], gradient, learning_rate, optimizer, None if before is None else before[0])
    else:
        shrink(parameters, learning_rate, decays, offset)
        old = None if before is None else (before[0], before[1])
        adamw(parameters, (moments[0], moments[1]), gradient, step, learning_rate, optimizer, old)
