"""Columns of a table that say the same as a target in other values or units: a network learns nothing else then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from distbp.data.preparation import Preparation, numbers_of

FEWEST_ROWS = 20
"""With fewer, two columns may go together by chance."""
LOOK_ROWS = 1000
"""Rows that are looked at first: most columns show there that they are others."""
LINEAR = 1 - 1e-9
"""Of the correlation: what is left is rounding."""


def find_repeats(
    x: NDArray, preparation: Preparation, y: NDArray, rows: NDArray[np.int64], are_classes: bool
) -> Iterator[str]:
    """Yield the names of columns that repeat a target in the training rows.

    x: packed rows. y: (N,) class numbers, (N, O) numbers, or zeros and ones where `are_classes`. Classes are repeated
    where each goes with one value of its own, numbers where they are a + b times the column.
    """
    if len(rows) < FEWEST_ROWS:
        return
    targets = y.reshape(len(y), -1)
    for name, values in _list_columns(x, preparation):
        if any(_repeats(values, targets[:, place], rows, are_classes) for place in range(targets.shape[1])):
            yield name


def _list_columns(x: NDArray, preparation: Preparation) -> Iterator[tuple[str, NDArray]]:
    """Yield every column that is one number or one code, (N,)."""
    num_numbers = num_codes = 0
    for column in preparation.used:
        if column.kind == "category":
            yield column.name, x["codes"][:, num_codes]
            num_codes += 1
        elif column.kind == "number":
            yield column.name, numbers_of(x)[:, num_numbers]
        num_numbers += len(column.numbers)


def _repeats(values: NDArray, target: NDArray, rows: NDArray[np.int64], are_classes: bool) -> bool:
    test = _are_one_to_one if are_classes else _are_linear
    head = rows[:LOOK_ROWS]
    return test(values[head], target[head]) and (len(head) == len(rows) or test(values[rows], target[rows]))


def _are_one_to_one(values: NDArray, target: NDArray) -> bool:
    found, places = np.unique(values, return_inverse=True)
    classes, numbers = np.unique(target, return_inverse=True)
    if not 2 <= len(found) == len(classes):
        return False
    return len(np.unique(places * len(classes) + numbers)) == len(classes)


def _are_linear(values: NDArray, target: NDArray) -> bool:
    known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    a, b = values[known].astype(np.float64), target[known].astype(np.float64)
    if len(a) < FEWEST_ROWS or a.min() == a.max() or b.min() == b.max():
        return False
    a, b = a - a.mean(), b - b.mean()
    return bool(abs(a @ b) >= LINEAR * np.sqrt((a @ a) * (b @ b)))
