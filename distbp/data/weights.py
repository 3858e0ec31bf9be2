"""What each example counts: the weights of a table's column, and those of classes. Pure.

A batch's gradient is the sum of w_i g_i divided by the sum of w_i, and so are its loss, and the loss and accuracy of an
evaluation. Weights of classes count in training only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from distbp.data.cells import read_numbers
from distbp.data.reading import list_names
from distbp.data.tables import Table
from distbp.data.targets import Label
from distbp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


NO_CLASSES = "data.class_weights is for targets that are one class each, and these are not; leave it out"


def read_weights(table: Table) -> NDArray[np.float64] | None:
    """Return the weights of a table's rows, (N,); None where it has none.

    Raises DataError for what is no weight: text, gaps, less than 0, or all 0.
    """
    if table.weight is None:
        return None
    weights = read_weight_column(table.cells, table.weight, table.origin)
    if not weights.any():
        raise DataError(describe_no_weight(table.weight, table.origin))
    return weights


def read_weight_column(cells: pa.Table, name: str, origin: str, first_row: int = 0) -> NDArray[np.float64]:
    """Return the weights of some rows, (N,), the first of which is number `first_row` of `origin`.

    Raises DataError for what is no weight: text, gaps, less than 0.
    """
    found = read_numbers(cells.column(name))
    where = f"the weight column {name!r} of {origin}"
    if found is None:
        raise DataError(f"{where} holds no numbers; weights are numbers of at least 0")
    weights = np.asarray(found, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        shown = "empty" if np.isnan(weights[wrong[0]]) else f"{weights[wrong[0]]:g}"
        row = first_row + wrong[0] + 1
        raise DataError(f"{where} is {shown} in data row {row}; weights are finite numbers of at least 0")
    return weights


def describe_no_weight(name: str, origin: str) -> str:
    """Return the sentence about weights that are all 0."""
    return f"the weight column {name!r} of {origin} is 0 in every row, so there is nothing to learn from"


def weigh_classes(
    y: NDArray[np.int64],
    rows: NDArray[np.int64],
    classes: tuple[Label, ...],
    wanted: Literal["balanced"] | Mapping[str, float],
) -> NDArray[np.float64]:
    """Return the weight of the class of every example, (N,).

    balanced: n / (K n_k) for n training examples, n_k of them in class k of K, as scikit-learn's class_weight.

    Raises DataError for a label that is no class.
    """
    return weigh_each_class(np.bincount(y[rows], minlength=len(classes)), classes, wanted)[y]


def weigh_each_class(
    counts: NDArray[np.int64], classes: tuple[Label, ...], wanted: Literal["balanced"] | Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the weight of each class, (K,). counts: (K,) how many training examples each has.

    Raises DataError for a label that is no class.
    """
    if wanted == "balanced":
        return np.asarray(counts.sum() / (len(classes) * np.maximum(counts, 1)), np.float64)
    names = [name_label(label) for label in classes]
    unknown = [label for label in wanted if label not in names]
    if unknown:
        raise DataError(f"data.class_weights names {unknown[0]!r}; the classes are {list_names(names)}")
    return np.array([wanted.get(name, 1.0) for name in names])


def name_label(label: Label) -> str:
    """Return a label as a setting names it: true and false in lower case."""
    return str(label).lower() if isinstance(label, bool) else str(label)
