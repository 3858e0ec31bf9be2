"""How single examples pull on the average gradient of all of them.

g_i is the gradient of example i, w_i its weight (1 where all count the same), G = sum w_i g_i / sum w_i the mean of n.
The share of an example is w_i (g_i . G) / (|G|^2 sum w_i); the shares of all n add up to 1. The agreement is the cosine
of the angle between g_i and G.

No g_i is ever stored. In a dense layer g_i is the outer product of delta and the activations before, so that
|g_i|^2 = sum_l |delta_l|^2 (1 + |a_(l-1)|^2) (Goodfellow 2015, "Efficient per-example gradient computations") and
g_i . G = sum_l delta_l . (G_W a_(l-1) + G_b).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.explain.network import Batch, Network


@dataclass(frozen=True, eq=False)
class Pulls:
    """n examples and the mean of their gradients; arrays (n,) in the order of `indices`.

    gradient: (num_parameters,) the mean G. length: |G|. lengths: |g_i|. weights: w_i. costs: in the units of the data.
    shares: the part of G that each example makes; they add up to 1 (all 0 where G is 0).
    agreements: cosines, 0 where g_i is 0.
    """

    indices: NDArray[np.int64]
    costs: NDArray
    lengths: NDArray
    shares: NDArray
    agreements: NDArray
    gradient: NDArray
    length: float
    weights: NDArray

    @property
    def cost(self) -> float:
        """The average cost, in which each example counts with its weight; 0 if all weights are 0."""
        return average(self.costs, self.weights)

    def hardest(self, limit: int) -> NDArray[np.int64]:
        """Return the positions in `indices` of those that pull hardest along the average."""
        order = np.argsort(-self.shares, kind="stable")[:limit]
        return order[self.shares[order] > 0]

    def opposing(self, limit: int) -> NDArray[np.int64]:
        """Return the positions in `indices` of those that pull hardest against the average."""
        order = np.argsort(self.shares, kind="stable")[:limit]
        return order[self.shares[order] < 0]

    def costliest(self, limit: int) -> NDArray[np.int64]:
        """Return the positions in `indices` of those that add most to the total: the highest cost times weight."""
        return np.argsort(-self.costs * self.weights, kind="stable")[:limit]


def average(values: NDArray, weights: NDArray) -> float:
    """Return the weighted average of values (n,), 0 if all weights are 0."""
    return float(weights @ values / (weights.sum() or 1))


def measure_pulls(
    network: Network, indices: NDArray[np.int64], batches: Iterable[Batch], mean: NDArray, total: float | None = None
) -> Pulls:
    """Return the pulls of the examples in `batches`, called `indices`, on a mean gradient (num_parameters,).

    total: the sum of the weights of all examples that `mean` is of; None: it is of these.
    """
    parts = [_measure(network, batch, mean) for batch in batches]
    costs, squares, dots, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    lengths, length = np.sqrt(squares), float(np.linalg.norm(mean))
    return Pulls(
        indices=indices,
        costs=costs,
        lengths=lengths,
        shares=_divide(weights * dots, (weights.sum() if total is None else total) * length**2),
        agreements=_divide(dots, lengths * length),
        gradient=mean,
        length=length,
        weights=weights,
    )


def _measure(network: Network, batch: Batch, mean: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return told cost, |g|^2, g . mean and weight of each example, all (B,)."""
    x, y, *weights = batch
    trace = network.trace(x, y)
    views = network.model.layout.views(mean)
    dots = np.zeros(len(x))
    for layer, (a, delta) in enumerate(zip(trace.inputs, trace.deltas, strict=True)):
        along = a @ views[f"{layer}.weight"].T + views[f"{layer}.bias"]
        dots += np.einsum("bo,bo->b", delta, along)
    costs = trace.losses if network.units is None else network.told_losses(x, y)
    return costs, trace.squared_norms(), dots, weights[0] if weights else np.ones(len(x))


def _divide(values: NDArray, by: NDArray | float | np.floating) -> NDArray:
    divisor = np.broadcast_to(np.asarray(by, np.float64), values.shape)
    quotient = np.zeros(values.shape)
    np.divide(values, divisor, out=quotient, where=divisor > 0)
    return quotient
