"""Steps and examples to a goal against batch size, after McCandlish et al. 2018, equation 2.11 and appendix D. Pure.

    (S / S_min - 1) (E / E_min - 1) = 1,   E = B S,   B_crit = E_min / S_min

is the same as S = S_min (1 + B_crit / B) and E = E_min (1 + B / B_crit).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Hyperbola:
    """Fitted steps to a goal: never below `min_steps`, and twice that at `critical_batch_size`."""

    min_steps: float
    critical_batch_size: float

    @property
    def min_examples(self) -> float:
        """E_min: what the smallest batches need."""
        return self.min_steps * self.critical_batch_size

    def steps(self, batch_size: float) -> float:
        """Return S = S_min (1 + B_crit / B)."""
        return self.min_steps * (1 + self.critical_batch_size / batch_size)

    def examples(self, batch_size: float) -> float:
        """Return E = B S."""
        return batch_size * self.steps(batch_size)


@dataclass(frozen=True)
class HyperbolaFit:
    """The curve and how well it describes what was measured.

    residual: root mean square of log(measured / fitted) over the points; 0.1 is a typical miss of 10 percent.
    """

    curve: Hyperbola
    residual: float
    num_points: int


def fit_hyperbola(batch_sizes: Sequence[float], steps: Sequence[float]) -> HyperbolaFit | None:
    """Return the least-squares fit of log S, or None for fewer than three points.

    For a given B_crit the best S_min is a mean, so what is left is a search over one number.
    """
    if len(batch_sizes) < 3:
        return None
    sizes, logs = np.asarray(batch_sizes, float), np.log(np.asarray(steps, float))
    low, high = math.log(sizes.min() / 1e3), math.log(sizes.max() * 1e3)
    grid = np.linspace(low, high, 200)
    nearest = int(np.argmin([_misfit(point, sizes, logs) for point in grid]))
    bracket = grid[max(nearest - 1, 0)], grid[min(nearest + 1, len(grid) - 1)]
    log_critical = _minimum(bracket[0], bracket[1], sizes, logs)
    log_min_steps = float(np.mean(logs - np.log1p(math.exp(log_critical) / sizes)))
    curve = Hyperbola(math.exp(log_min_steps), math.exp(log_critical))
    return HyperbolaFit(curve, math.sqrt(_misfit(log_critical, sizes, logs)), len(sizes))


def _misfit(log_critical: float, sizes: NDArray, logs: NDArray) -> float:
    """Return the mean square of log S - log(S_min (1 + B_crit / B)) with the best S_min."""
    return float(np.var(logs - np.log1p(math.exp(log_critical) / sizes)))


def _minimum(low: float, high: float, sizes: NDArray, logs: NDArray) -> float:
    """Return where _misfit is smallest in [low, high], by golden section."""
    while high - low > 1e-9:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _misfit(left, sizes, logs) < _misfit(right, sizes, logs):
            high = right
        else:
            low = left
    return (low + high) / 2
