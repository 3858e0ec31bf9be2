"""Small data that the tests of the estimators share."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
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


def mixed(num: int = 200, seed: int = 0) -> tuple[pa.Table, NDArray]:
    """Return a table with numbers, gaps, text and dates, and a label that follows from them."""
    generator = np.random.default_rng(seed)
    size, plan = generator.normal(size=num), np.array(["basic", "plus", "max"])[generator.integers(0, 3, num)]
    y = np.where(size + (plan == "max") * 3.0 > 1, "stays", "leaves")
    gaps = generator.uniform(size=num) < 0.1
    columns = {
        "size": pa.array(size),
        "age": pa.array(generator.integers(18, 90, num), mask=gaps),
        "plan": pa.array(plan.tolist(), mask=np.roll(gaps, 3)),
        "since": pa.array(np.datetime64("2020-01-01") + generator.integers(0, 900, num)),
        "is_new": pa.array(generator.uniform(size=num) < 0.5),
    }
    return pa.table(columns), y
