"""The SGD update, written once for any slice of the flat vector. All arrays are (n,) of one dtype."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from distbp.config import Optimizer


def decay(gradient: NDArray, parameters: NDArray, decays: Iterable[tuple[int, int, float]], offset: int) -> None:
    """Add weight_decay * w to the gradient in place, in each range (start, stop, weight_decay) of the flat vector.

    gradient, parameters: the slice of the flat vector that begins at `offset`.
    """
    for start, stop, weight_decay in decays:
        part = slice(max(start - offset, 0), max(stop - offset, 0))
        gradient[part] += weight_decay * parameters[part]


def sgd(
    parameters: NDArray,
    velocity: NDArray,
    gradient: NDArray,
    learning_rate: float,
    optimizer: Optimizer,
    before: NDArray | None = None,
) -> None:
    """Update parameters w and velocity v in place; the gradient g is used up.

    before: where the velocity is read, if not where it is written; without momentum both stay as they are.

    v <- momentum v + g;  w <- w - learning_rate v, or w - learning_rate (g + momentum v) with Nesterov
    (Sutskever et al. 2013 in PyTorch's form, where the learning rate stays outside the velocity).
    """
    if optimizer.momentum == 0:
        gradient *= learning_rate
        parameters -= gradient
        return
    np.multiply(velocity if before is None else before, optimizer.momentum, out=velocity)
    velocity += gradient
    if optimizer.nesterov:
        gradient += optimizer.momentum * velocity
        gradient *= learning_rate
    else:
        np.multiply(velocity, learning_rate, out=gradient)
    parameters -= gradient


def sum_of_squares(block: NDArray) -> float:
    """Return the sum of squares of one block, added up in float64."""
    wide = block.astype(np.float64, copy=False)
    return float(np.add.reduce(wide * wide))


def clip_factor(sums_of_squares: Iterable[float], clip_norm: float) -> float:
    """Return min(1, clip_norm / norm), given the sum of squares of each block; fsum is exact, so any order is right."""
    norm = math.sqrt(math.fsum(sums_of_squares))
    return min(1.0, clip_norm / norm) if norm > 0 else 1.0
