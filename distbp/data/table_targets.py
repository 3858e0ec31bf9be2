"""The targets of a table: rows without one are left out, and whole numbers are told to be classes or a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.data.cells import find_gap_marks, is_text, read_labels, read_numbers
from distbp.data.tables import Table, read_target_columns, to_plain
from distbp.data.targets import Task
from distbp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LIKELY_CLASSES = 20
"""Whole numbers with more different values are a quantity, unless the task says otherwise."""


def keep_rows_with_targets(table: Table, task: Task | None) -> tuple[Table, NDArray, list[str]]:
    """Return the rows that have all targets, their targets (N,) or (N, O), and a note where others were left out.

    Several targets that are classes are (N, O) texts.
    """
    from pyarrow import compute

    if table.cells.num_rows == 0:
        raise DataError(f"{table.origin} has columns but no rows; expected at least one example")
    cells, is_whole = table.cells, False
    for name in table.targets:
        column = _read_target(cells.column(name), task)
        is_whole = is_whole or _is_whole(column)
        cells = cells.set_column(cells.column_names.index(name), name, column)
    missing = np.zeros(cells.num_rows, bool)
    for name in table.targets:
        missing |= compute.is_null(cells.column(name), nan_is_null=True).to_numpy()
    num_missing = int(missing.sum())
    if num_missing == len(missing):
        raise DataError(f"the target {' and '.join(map(repr, table.targets))} of {table.origin} is empty in every row")
    kept = cells.filter(~missing) if num_missing else cells
    if _are_many_labels(kept, table.targets, task):
        y = np.array([_to_texts(kept.column(name)) for name in table.targets], object).T
    else:
        y = read_target_columns(kept, table.targets, table.origin)
    if is_whole and y.ndim == 1:
        y = y.astype(np.int64)
    notes = [f"{num_missing:,} of {len(missing):,} rows have no target, so they are left out"] if num_missing else []
    return replace(table, cells=kept), y, notes


def find_labels(y: NDArray, names: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Return the two labels of each of several targets, sorted; None where targets are no texts (N, O).

    Raises DataError for a target that has not two.
    """
    if y.ndim != 2 or y.dtype != object:
        return None
    found = [sorted(set(column)) for column in y.T]
    for name, labels in zip(names, found, strict=True):
        if len(labels) != 2:
            shown = ", ".join(map(repr, labels[:4]))
            raise DataError(
                f"target {name!r} has the labels {shown}; of several targets each must have two labels, or be a number"
            )
    return tuple((labels[0], labels[1]) for labels in found)


def number_labels(y: NDArray, labels: Sequence[tuple[str, str]], origin: str) -> NDArray[np.float64]:
    """Return (N, O) texts as 0 and 1. Raises DataError for a label that training did not have."""
    numbers = np.empty(y.shape)
    for place, pair in enumerate(labels):
        unknown = sorted(set(y[:, place]) - set(pair))
        if unknown:
            raise DataError(f"{origin} has the label {unknown[0]!r}, which training did not; it had {pair}")
        numbers[:, place] = y[:, place] == pair[1]
    return numbers


def _are_many_labels(cells: pa.Table, names: Sequence[str], task: Task | None) -> bool:
    """Return whether several targets are classes: where the task says so, or none of them is a number."""
    import pyarrow as pa

    if len(names) < 2 or task == "regression":
        return False
    kinds = [cells.column(name).type for name in names]
    return task == "classification" or all(is_text(kind) or pa.types.is_boolean(kind) for kind in kinds)


def _to_texts(column: pa.ChunkedArray) -> list[str]:
    labels = read_labels(column)
    if labels is None:
        raise DataError(f"a target holds {column.type} values; expected text, true and false, or numbers")
    return list(labels.to_pylist())


def _read_target(column: pa.ChunkedArray, task: Task | None) -> pa.ChunkedArray:
    """Return a target's cells with null for empty text; text that is all numbers but for marks such as ? as numbers."""
    import pyarrow as pa
    from pyarrow import compute

    plain = to_plain(column)
    if not is_text(plain.type):
        return plain
    if task != "classification" and find_gap_marks(plain) and (values := read_numbers(plain)) is not None:
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    return compute.if_else(compute.equal(plain, ""), pa.scalar(None, plain.type), plain)


def _is_whole(column: pa.ChunkedArray) -> bool:
    """Return whether numbers with gaps are whole, which other programs store as floats because of the gaps."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        return False
    values = column.to_numpy()
    known = values[np.isfinite(values)]
    return (
        len(known) < len(values)
        and bool((known == np.floor(known)).all())
        and float(np.abs(known).max(initial=0)) < 2**53
    )


def choose_task(y: NDArray, task: Task | None, table: Table) -> tuple[Task | None, list[str]]:
    """Return the task, and a note where whole numbers are a quantity, or two numbers are classes."""
    if task is not None or y.ndim > 1 or y.dtype.kind not in "iuf":
        return task, []
    values = np.unique(y)
    name = table.targets[0]
    if y.dtype.kind == "f":
        if len(values) != 2 or (values != np.floor(values)).any():
            return task, []
        return "classification", [
            f"{name!r} is {values[0]:g} or {values[1]:g}, so these are classes; data.task says so"
        ]
    if len(values) <= MOST_LIKELY_CLASSES:
        return "classification", []
    note = f"{name!r} has {len(values):,} different whole numbers, so it is a quantity; data.task=classification if not"
    return "regression", [note]
