"""Rounds written again, in plain NumPy and as simply as can be: the oracle of the tests. Nothing of distbp is used.

A network with ReLU and softmax, W of shape (O, I), examples in rows; SGD with momentum inside, Nesterov outside.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def gradients(weights: list[NDArray], biases: list[NDArray], x: NDArray, y: NDArray) -> list[NDArray]:
    """The mean gradient over the examples, of every weight and bias in turn."""
    activations = [x]
    for W, b in zip(weights, biases, strict=True):
        z = activations[-1] @ W.T + b
        activations.append(np.maximum(z, 0) if W is not weights[-1] else z)
    e = np.exp(activations[-1] - activations[-1].max(axis=1, keepdims=True))
    delta = (e / e.sum(axis=1, keepdims=True) - np.eye(e.shape[1])[y]) / len(x)
    found: list[NDArray] = []
    for layer in reversed(range(len(weights))):
        found = [delta.T @ activations[layer], delta.sum(axis=0), *found]
        if layer:
            delta = (delta @ weights[layer]) * (activations[layer] > 0)
    return found


def train_in_rounds(
    tensors: list[NDArray],
    x: NDArray,
    y: NDArray,
    orders: list[NDArray],
    *,
    batch: int,
    microbatch: int,
    replicas: int,
    steps: int,
    rate: float,
    momentum: float,
    outer_rate: float,
    outer_momentum: float,
) -> list[NDArray]:
    """The parameters, [W, b, W, b, ...], after an epoch for each order of the examples."""
    theta = [tensor.copy() for tensor in tensors]
    outer_v = [np.zeros_like(tensor) for tensor in theta]
    for order in orders:
        batches = [order[i : i + batch] for i in range(0, len(order), batch)]
        for first in range(0, len(batches), steps):
            ends, weights = [], []
            for k in range(replicas):
                w, v, seen = [t.copy() for t in theta], [np.zeros_like(t) for t in theta], 0
                for chosen in batches[first : first + steps]:
                    count = math.ceil(len(chosen) / microbatch)
                    lo, hi = count * k // replicas * microbatch, count * (k + 1) // replicas * microbatch
                    part = chosen[lo:hi]
                    if len(part) == 0:
                        continue
                    seen += len(part)
                    for t, u, g in zip(w, v, gradients(w[::2], w[1::2], x[part], y[part]), strict=True):
                        u *= momentum
                        u += g
                        t -= rate * u
                ends.append(w)
                weights.append(seen)
            for i, t in enumerate(theta):
                mean = sum(n * end[i] for n, end in zip(weights, ends, strict=True)) / sum(weights)
                g = t - mean
                outer_v[i] = outer_momentum * outer_v[i] + g
                t -= outer_rate * (g + outer_momentum * outer_v[i])
    return theta
