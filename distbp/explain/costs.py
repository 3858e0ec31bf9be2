"""How the cost is spread over the examples, and which of them dominate it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 24
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True, eq=False)
class CostSpread:
    """The distribution of n costs.

    edges: (bins + 1,) of the histogram, evenly spaced in the logarithm. counts: (bins,).
    quantiles: the costs below which 0, 25, 50, 75, 90, 99 and 100 % lie, (7,).
    top_fractions: (5,) of the examples, the costliest first. carried: (5,) the part of the total cost they carry. For
    these two a cost counts times the example's weight.
    """

    edges: NDArray
    counts: NDArray[np.int64]
    quantiles: NDArray
    top_fractions: NDArray
    carried: NDArray


def spread_costs(costs: NDArray, weights: NDArray | None = None) -> CostSpread:
    """Return the distribution of costs (n,), n >= 1. weights: (n,) of the examples, None: all the same."""
    low, high = _limits(costs)
    edges = np.geomspace(low, high, NUM_BINS + 1)
    counts, _ = np.histogram(np.clip(costs, edges[0], edges[-1]), edges)
    carried = np.cumsum(np.sort(costs if weights is None else costs * weights)[::-1])
    numbers = np.maximum(1, np.ceil(np.array(FRACTIONS) * len(costs))).astype(np.int64)
    total = carried[-1]
    return CostSpread(
        edges=edges,
        counts=counts,
        quantiles=np.quantile(costs, (0, 0.25, 0.5, 0.75, 0.9, 0.99, 1)),
        top_fractions=numbers / len(costs),
        carried=carried[numbers - 1] / total if total > 0 else np.zeros(len(numbers)),
    )


def _limits(costs: NDArray) -> tuple[float, float]:
    """Return the ends of a logarithmic axis; what is below a millionth of the largest cost counts as that."""
    high = max(float(costs.max()), 1e-12)
    low = max(float(costs.min()), high * 1e-6)
    return low / 1.001, high * 1.001
