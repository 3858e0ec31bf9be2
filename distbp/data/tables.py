"""CSV and Parquet files, read with pyarrow, which is imported only when one is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.data.columns import TARGET_NAMES, choose_columns
from distbp.data.raw import RawExamples, SourceKind, Wanted
from distbp.data.reading import check_file, reading
from distbp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

CSV_BLOCK_BYTES = 1 << 24  # one line must fit


def read_csv(path: Path, wanted: Wanted) -> RawExamples:
    """Return the examples of a comma-separated UTF-8 file whose first line names the columns."""
    import pyarrow as pa
    from pyarrow import csv

    check_file(path)
    text = wanted.target if wanted.target is not None else wanted.known_targets
    text_columns = (text,) if isinstance(text, str) else text or TARGET_NAMES
    with reading(path, "a CSV file"):
        types = {name: pa.string() for name in text_columns} if wanted.text_targets else None
        table = csv.read_csv(
            str(path),
            read_options=csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
            convert_options=csv.ConvertOptions(column_types=types),
        )
        names = table.column_names
    features, targets = choose_columns(names, wanted, f"'{path}'")
    return _from_table("csv", path, table, features, targets)


def read_parquet(path: Path, wanted: Wanted) -> RawExamples:
    """Return the examples of a Parquet file; columns that are neither features nor targets are not read."""
    from pyarrow import parquet

    check_file(path)
    with reading(path, "a Parquet file"), parquet.ParquetFile(str(path)) as file:
        names = file.schema_arrow.names
        features, targets = choose_columns(names, wanted, f"'{path}'")
        table = file.read(columns=[*features, *targets])
        table.validate(full=True)
    return _from_table("parquet", path, table, features, targets)


def _from_table(
    kind: SourceKind, path: Path, table: pa.Table, features: tuple[str, ...], targets: tuple[str, ...]
) -> RawExamples:
    if table.num_rows == 0:
        raise DataError(f"'{path}' has columns but no rows; expected at least one example")
    x = _read_numbers(table, features, "feature", path)
    y = _read_targets(table, targets, path) if targets else None
    return RawExamples(kind, f"'{path}'", x, y, (len(features),), features, targets or None)


def _read_targets(table: pa.Table, names: Sequence[str], path: Path) -> NDArray:
    """Return one column as (N,), text as objects, or several columns of numbers as (N, O)."""
    import pyarrow as pa

    if len(names) > 1:
        return _read_numbers(table, names, "target", path)
    column = _decode_dictionary(table.column(names[0]))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return _read_numbers(table, names, "target", path)[:, 0]
    _check_filled(column, names[0], path)
    with reading(path, "a table of valid text"):
        labels = np.array(column.to_pylist(), dtype=object)
    if "" in labels:
        row = int(np.flatnonzero(labels == "")[0]) + 1
        raise DataError(f"column {names[0]!r} of '{path}' is empty in data row {row}; fill it in or drop the row")
    return labels


def _read_numbers(table: pa.Table, names: Sequence[str], role: str, path: Path) -> NDArray:
    """Return columns as (N, K) in the smallest dtype that holds all their values."""
    columns = [_to_numbers(table.column(name), name, role, path) for name in names]
    matrix = np.empty((table.num_rows, len(columns)), np.result_type(*map(_smallest_dtype, columns)))
    for number, column in enumerate(columns):
        matrix[:, number] = column.to_numpy()
    return matrix


def _to_numbers(column: pa.ChunkedArray, name: str, role: str, path: Path) -> pa.ChunkedArray:
    import pyarrow as pa

    _check_filled(column, name, path)
    column = _decode_dictionary(column)
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
        return column
    example = repr(str(column[0]))[:40]
    advice = "encode it as numbers or drop it" if role == "feature" else "expected numbers"
    if pa.types.is_binary(column.type):
        advice = "this is not UTF-8 text, so save it as UTF-8"
    raise DataError(f"{role} column {name!r} of '{path}' holds {column.type} values such as {example}; {advice}")


def _smallest_dtype(column: pa.ChunkedArray) -> np.dtype:
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_integer(column.type):
        dtype: np.dtype = pa.array([], column.type).to_numpy(zero_copy_only=False).dtype  # to_pandas_dtype wants pandas
        return dtype
    extent = compute.min_max(column).as_py()
    return np.result_type(np.min_scalar_type(extent["min"]), np.min_scalar_type(extent["max"]))


def _check_filled(column: pa.ChunkedArray, name: str, path: Path) -> None:
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise DataError(
            f"column {name!r} of '{path}' is empty in data row {row} ({column.null_count} empty cells in all); "
            "fill them in, or drop the rows or the column"
        )


def _decode_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a categorical column as its plain values."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
