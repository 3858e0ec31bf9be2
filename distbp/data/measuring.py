"""What a table's training rows say about each column: means, scaling, categories.

Sums are taken over chunks of fixed size, from front to back, so they depend on the data and the rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distbp.config.recipe import ColumnKind
from distbp.data.cells import PARTS, are_truths, is_text, split_moments
from distbp.data.finite import LARGEST, iterate_chunks
from distbp.data.kinds import Choice, choose_kinds
from distbp.data.preparation import Column, Number, Preparation, encode_labels, numbers_of, pack
from distbp.data.scaling import Moments, ScalingKind, summarize_rows
from distbp.data.tables import Table, to_plain
from distbp.errors import DataError
from distbp.protocol.examples import Scaling


def measure_table(
    table: Table, named: Mapping[str, ColumnKind], rows: NDArray[np.int64], kind: ScalingKind
) -> tuple[Preparation, NDArray, list[Choice]]:
    """Return what is done with every column, and the rows as `Encoding` takes them."""
    choices = choose_kinds(table.cells, table.features, named, rows, table.origin)
    categories = {c.name: _measure_categories(c, table, rows) for c in choices if c.labels is not None}
    parts = {c.name: list(_take_parts(c, rows)) for c in choices if c.values is not None}
    numbers = [values for found in parts.values() for _, values in found]
    codes = [encode_labels(table.cells.column(name), column) for name, column in categories.items()]
    x = pack(numbers, codes, table.cells.num_rows)
    fills, has_gaps, scaling = _measure_numbers(numbers_of(x), rows, kind)
    position, columns = 0, []
    for choice in choices:
        found = []
        for part, _ in parts.get(choice.name, ()):
            first = part is None or part == parts[choice.name][0][0]  # one input for the gaps of a date is enough
            found.append(_make_number(part, position, fills, has_gaps[position] and first, scaling))
            position += 1
        columns.append(categories.get(choice.name) or Column(choice.name, choice.kind, tuple(found), why=choice.why))
    preparation = Preparation(tuple(columns))
    check_usable(x, preparation, table.origin)
    return preparation, x, choices


def _make_number(part: str | None, position: int, fills: NDArray, has_gaps: bool, scaling: Scaling) -> Number:
    shift = None if scaling.shift is None else float(scaling.shift[position])
    scale = None if scaling.scale is None else float(scaling.scale[position])
    return Number(part, float(fills[position]), shift, scale, bool(has_gaps))


def _take_parts(choice: Choice, rows: NDArray[np.int64]) -> Sequence[tuple[str | None, NDArray]]:
    """Return the numbers of a column; of a date the parts that differ among the training rows."""
    assert choice.values is not None
    if choice.kind == "number":
        return [(None, choice.values)]
    found = [(part, split_moments(choice.values, part).astype(np.float32)) for part in PARTS]
    differing = [(part, values) for part, values in found if _differs(values[rows])]
    if [part for part, _ in differing] == ["year", "weekday"]:  # one day of each year, such as 1 January
        return differing[:1]
    return differing


def _differs(values: NDArray) -> bool:
    """Return whether there are two different numbers."""
    known = values[~np.isnan(values)]
    return len(known) > 0 and bool(known.min() < known.max())


def _measure_categories(choice: Choice, table: Table, rows: NDArray[np.int64]) -> Column:
    from pyarrow import compute

    assert choice.labels is not None
    found = compute.unique(choice.labels.take(rows)).to_pylist()
    names = tuple(sorted(label for label in found if label is not None))
    has_text = is_text(to_plain(table.cells.column(choice.name)).type) and not are_truths(choice.labels)
    return Column(choice.name, "category", categories=names, has_gaps=None in found, is_text=has_text)


def _measure_numbers(
    numbers: NDArray, rows: NDArray[np.int64], kind: ScalingKind
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Scaling]:
    """Return the mean of every number without its gaps, whether it has gaps, and the scaling of what is filled so."""
    num_numbers = numbers.shape[1]
    sums, counts, total = np.zeros(num_numbers), np.zeros(num_numbers), None
    if num_numbers == 0:
        return sums, counts > 0, Scaling()
    for part in _training_chunks(numbers, rows):
        known = ~np.isnan(part)
        sums += np.where(known, part, 0).sum(axis=0)
        counts += known.sum(axis=0)
    means = sums / np.maximum(counts, 1)
    if kind == "none":
        return means, counts < len(rows), Scaling()
    for part in _training_chunks(numbers, rows):
        found = summarize_rows(np.where(np.isnan(part), means, part), kind)
        total = found if total is None else total.merge(found)  # type: ignore[arg-type]  # all are of one kind
    assert total is not None
    return means, counts < len(rows), total.to_scaling()


def _training_chunks(numbers: NDArray, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """Yield the training rows of each chunk as float64, a new array."""
    for start, chunk in iterate_chunks(numbers):
        first, last = np.searchsorted(rows, (start, start + len(chunk)))
        if first < last:
            yield chunk[rows[first:last] - start].astype(np.float64)


def measure_targets(y: NDArray) -> Scaling:
    """Return the map of (n, O) targets to mean 0 and standard deviation 1."""
    return Moments.of(y.astype(np.float64)).to_scaling()


def check_usable(x: NDArray, preparation: Preparation, origin: str) -> None:
    """Raise DataError for infinity and numbers beyond 1e38."""
    numbers = numbers_of(x)
    if numbers.dtype.kind != "f":
        return
    names = [name for column in preparation.columns for name in column.name_numbers()]
    first, total = "", 0
    for start, chunk in iterate_chunks(numbers) if numbers.shape[1] else ():
        rows, columns = np.nonzero(np.abs(chunk) > LARGEST)
        if len(rows) and not first:
            first = f"column {names[columns[0]]!r} in data row {start + rows[0] + 1} is {chunk[rows[0], columns[0]]}"
        total += len(rows)
    if total:
        raise DataError(
            f"{origin} has {total} values that cannot be used, the first: {first}; expected finite numbers up to "
            f"{LARGEST:.0e}, so replace them or drop their rows"
        )
