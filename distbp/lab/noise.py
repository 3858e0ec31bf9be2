"""The gradient noise scale, after McCandlish et al. 2018, section 2.2 and appendix A. Pure.

G is the gradient over all N training examples, g_i that of one, G_B that of a random batch of B. With
tr(S) = sum_i |g_i - G|^2 / (N - 1) and batches drawn without replacement,

    E |G_B - G|^2 = tr(S) / B (1 - B / N),   B_simple = tr(S) / |G|^2.

At B = B_simple the noise in a step is as large as the step itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Noise:
    """trace: tr(S), the variance of one example's gradient, summed over parameters. squared_norm: |G|^2."""

    trace: float
    squared_norm: float

    @property
    def scale(self) -> float:
        """B_simple, in examples; not a number where an estimate of |G|^2 is not positive."""
        return self.trace / self.squared_norm if self.squared_norm > 0 else math.nan


def exact_noise(squared_norms: NDArray, gradient_squared_norm: float) -> Noise:
    """Return the noise from |g_i|^2 of all N examples, (N,), and |G|^2: no sampling, no estimate."""
    num_examples = len(squared_norms)
    mean = float(np.mean(squared_norms, dtype=np.float64))
    trace = (mean - gradient_squared_norm) * num_examples / (num_examples - 1)
    return Noise(trace, gradient_squared_norm)


def estimate_noise(small: int, squared_small: float, big: int, squared_big: float) -> Noise:
    """Return the noise estimated from batches of two sizes (appendix A.1).

    squared_small: the mean of |G_B|^2 at B = small. Trace and norm are each unbiased, their ratio is not: average both
    before dividing. For batches drawn without replacement from N examples, squared_norm estimates |G|^2 - tr(S) / N.
    """
    squared_norm = (big * squared_big - small * squared_small) / (big - small)
    trace = (squared_small - squared_big) / (1 / small - 1 / big)
    return Noise(trace, squared_norm)


def relative_error(noise_scale: float, batch_size: int, num_examples: int) -> float:
    """Return E |G_B - G|^2 / |G|^2 for batches drawn without replacement."""
    return noise_scale / batch_size * (1 - batch_size / num_examples)


def expected_cosine(noise_scale: float, batch_size: int, num_examples: int) -> float:
    """Return roughly the cosine between a batch's gradient and the full one: 1 / sqrt(1 + relative error)."""
    return 1 / math.sqrt(1 + relative_error(noise_scale, batch_size, num_examples))
