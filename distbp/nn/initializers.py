"""Initial weights and biases. Shape legend: W (O, I), b (O,)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def initialize(name: str, weight: NDArray, bias: NDArray, rng: np.random.Generator) -> None:
    """Fill one layer's weight (O, I) and bias (O,) in place.

    glorot: uniform in +-sqrt(6 / (I + O)), zero biases (Glorot & Bengio 2010, equation 16).
    he: normal with variance 2 / I, zero biases (He et al. 2015, equation 10).
    normal: N(0, 1) for weights and biases (Nielsen, "Neural Networks and Deep Learning", chapter 1).

    Values are drawn in float64 and rounded to the layer's dtype, so both dtypes start at the same point.
    """
    num_outputs, num_inputs = weight.shape
    bias[...] = 0
    match name:
        case "glorot":
            bound = math.sqrt(6 / (num_inputs + num_outputs))
            weight[...] = rng.uniform(-bound, bound, weight.shape)
        case "he":
            weight[...] = rng.standard_normal(weight.shape) * math.sqrt(2 / num_inputs)
        case "normal":
            weight[...] = rng.standard_normal(weight.shape)
            bias[...] = rng.standard_normal(bias.shape)
        case _:
            raise ValueError(f"no initialisation is called {name!r}")
