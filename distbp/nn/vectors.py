"""Vectors compared: what studies and explanations say of gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cosine(a: NDArray, b: NDArray) -> float:
    """Return the cosine of the angle between two vectors (n,), 0 where one of them is 0."""
    product = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / product if product else 0.0
