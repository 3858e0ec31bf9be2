"""Small data that the tests of the estimators share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def blobs(num: int = 150, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Return x (num, 4) and the labels of three classes, which lie apart."""
    generator = np.random.default_rng(seed)
    classes = np.arange(num) % 3
    return generator.normal(size=(num, 4)) + 2.5 * classes[:, None], np.array(["ant", "bee", "cow"])[classes]


def plane(num: int = 150, num_targets: int = 1, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Return x (num, 4) and targets (num,) or (num, num_targets), nearly linear in x and far from 0."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(num, 4))
    y = 5000 + 300 * x @ generator.normal(size=(4, num_targets)) + generator.normal(size=(num, num_targets))
    return x, y[:, 0] if num_targets == 1 else y
