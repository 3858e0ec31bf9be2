"""The AdamW update (Loshchilov & Hutter 2019), written once for any slice of the flat vector. All arrays are (n,)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from distbp.config import Optimizer


def adamw(
    parameters: NDArray,
    moments: tuple[NDArray, NDArray],
    gradient: NDArray,
    step: int,
    learning_rate: float,
    optimizer: Optimizer,
    before: tuple[NDArray, NDArray] | None = None,
) -> None:
    """Update parameters w and the moments m and v in place; the gradient g is used up. step counts from 1.

    before: where the moments are read, if not where they are written.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- w - learning_rate / (1 - b1^step) * m / (sqrt(v) / sqrt(1 - b2^step) + eps), in PyTorch's form.
    The bias corrections are Python floats, the same for every slice. Weight decay comes before, see `shrink`.
    """
    (m, v), (m_before, v_before), (b1, b2) = moments, before or moments, optimizer.betas
    np.multiply(m_before, b1, out=m)
    m += (1 - b1) * gradient
    np.multiply(v_before, b2, out=v)
    gradient *= gradient
    gradient *= 1 - b2
    v += gradient
    np.sqrt(v, out=gradient)
    gradient /= math.sqrt(1 - b2**step)
    gradient += optimizer.eps
    np.divide(m, gradient, out=gradient)
    gradient *= learning_rate / (1 - b1**step)
    parameters -= gradient


def shrink(parameters: NDArray, learning_rate: float, decays: Iterable[tuple[int, int, float]], offset: int) -> None:
    """Apply decoupled weight decay: w <- (1 - learning_rate weight_decay) w in each range (start, stop, weight_decay).

    parameters: the slice of the flat vector that begins at `offset`.
    """
    for start, stop, weight_decay in decays:
        parameters[max(start - offset, 0) : max(stop - offset, 0)] *= 1 - learning_rate * weight_decay
