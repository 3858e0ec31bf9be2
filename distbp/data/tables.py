"""CSV and Parquet files, read with pyarrow, which is imported only when one is read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.data.columns import TARGET_NAMES, check_present, choose_columns
from distbp.data.dialect import Dialect, find_dialect, find_spelling
from distbp.data.raw import RawExamples, SourceKind, Wanted
from distbp.data.reading import check_file, check_memory, reading
from distbp.errors import DataError
from distbp.installation import need
from distbp.text.sentences import suggest

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

CSV_BLOCK_BYTES = 1 << 24
LARGEST_BLOCK_BYTES = 1 << 30
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d+)?\s*")
CODE = r"^\s*[+-]?0\d"  # a number would not be written so
LONGEST_EXAMPLE = 40


@dataclass(frozen=True)
class Table:
    """A table as it was read: which columns are features, which are targets, and which has weights, if it is there."""

    kind: SourceKind
    origin: str
    cells: pa.Table
    features: tuple[str, ...]
    targets: tuple[str, ...]
    weight: str | None = None

    def to_examples(self) -> RawExamples:
        """Return the examples of a table whose features are all numbers."""
        return from_table(self.kind, self.origin, self.cells, self.features, self.targets)


def read_csv(path: Path, wanted: Wanted) -> RawExamples:
    """Return the examples of a text table all of whose features are numbers."""
    return open_csv(path, wanted).to_examples()


def open_csv(path: Path, wanted: Wanted) -> Table:
    """Return a text table whose first line names the columns, plain or gzipped.

    Cells are separated by commas, or by semicolons (then 0,5 is a number), tabs or bars; UTF-8, or UTF-16 with a mark.
    """
    need("reading a CSV file", "pyarrow")
    check_file(path)
    dialect = find_dialect(path)
    check_memory(_count_bytes(path), f"'{path}'")
    table = _parse_csv(path, dialect, _list_text_columns(dialect, wanted))
    with reading(path, "a CSV file"):
        names = table.column_names
    features, targets = choose_columns(names, wanted, f"'{path}'")
    if len(targets) == 1 and _may_be_labels(table.column(targets[0]).type, wanted):
        table = _keep_codes(table, path, dialect, targets[0])
    return Table("csv", f"'{path}'", table, features, targets, find_weight(names, wanted))


def read_parquet(path: Path, wanted: Wanted) -> RawExamples:
    """Return the examples of a Parquet file all of whose features are numbers."""
    return open_parquet(path, wanted).to_examples()


def open_parquet(path: Path, wanted: Wanted) -> Table:
    """Return a Parquet file; columns that are neither features nor targets are not read."""
    need("reading a Parquet file", "pyarrow")
    from pyarrow import parquet

    check_file(path)
    with reading(path, "a Parquet file"), parquet.ParquetFile(str(path)) as file:
        names = file.schema_arrow.names
        features, targets = choose_columns(names, wanted, f"'{path}'")
        weight = find_weight(names, wanted)
        check_memory(_estimate_bytes(file.metadata, len(features)), f"'{path}'")
        table = file.read(columns=[*features, *targets, *([] if weight is None else [weight])])
        table.validate(full=True)
    return Table("parquet", f"'{path}'", table, features, targets, weight)


def _estimate_bytes(metadata: pq.FileMetaData, num_features: int) -> int:
    """Return about how much memory a Parquet file takes, of which runs of equal values may need next to nothing."""
    stored = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return int(max(stored, metadata.num_rows * num_features))


def read_kept(path: Path, names: Sequence[str], is_parquet: bool) -> dict[str, NDArray]:
    """Return columns of a table as they are, (N,) each: those of a text table as its text, gaps as empty text.

    Raises DataError for a column that is not there.
    """
    from pyarrow import parquet

    if is_parquet:
        with reading(path, "a Parquet file"), parquet.ParquetFile(str(path)) as file:
            found = [find_spelling(name, file.schema_arrow.names) for name in names]
            check_present(found, file.schema_arrow.names, f"'{path}'")
            table = file.read(columns=found)
    else:
        dialect = find_dialect(path)
        found = [find_spelling(name, dialect.names) for name in names]
        check_present(found, dialect.names, f"'{path}'")
        table = _parse_csv(path, dialect, found, found)
    return {name: _to_values(table.column(spelling)) for name, spelling in zip(names, found, strict=True)}


def _to_values(column: pa.ChunkedArray) -> NDArray:
    """Return cells as NumPy holds them without objects."""
    import pyarrow as pa

    column = to_plain(column)
    if _is_numeric(column.type) and not (pa.types.is_boolean(column.type) and column.null_count):
        values: NDArray = column.to_numpy()
        return values
    return np.array(["" if cell is None else str(cell) for cell in column.to_pylist()], dtype=np.str_)


def open_frame(frame: object, wanted: Wanted) -> Table:
    """Return a table in memory: pyarrow's own, or one of another library with its interface."""
    need("reading a table", "pyarrow")
    import pyarrow as pa

    origin = f"the {type(frame).__name__}"
    try:
        table = pa.table(frame)
    except Exception as error:  # whatever another library raises
        raise DataError(f"{origin} is no table: {error}; pass its features as a NumPy array instead") from error
    features, targets = choose_columns(table.column_names, wanted, origin)
    return Table("parquet", origin, table, features, targets, find_weight(table.column_names, wanted))


def find_weight(names: Sequence[str], wanted: Wanted) -> str | None:
    """Return the column with the weights; None where none is wanted, or other data than those of training have none.

    Raises DataError where training data have no such column.
    """
    if wanted.weight is None or wanted.weight in names:
        return wanted.weight
    if wanted.held_out:
        return None
    advice = suggest(wanted.weight, names) or "; name a column of the table"
    raise DataError(f"data.weight={wanted.weight} names no column{advice}")


def _count_bytes(path: Path) -> int:
    """Return how long a text table is; of a gzipped one, what its last four bytes say, which is less if it is long."""
    with reading(path, "a text table"), path.open("rb") as stream:
        if path.suffix.lower() != ".gz":
            return path.stat().st_size
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(), "little")


def _may_be_labels(kind: pa.DataType, wanted: Wanted) -> bool:
    """Return whether a column that was read as numbers may hold the labels of training data."""
    import pyarrow as pa

    if wanted.held_out or wanted.task == "regression" or not _is_numeric(kind):
        return False
    return wanted.task == "classification" or not pa.types.is_floating(kind)


def _list_text_columns(dialect: Dialect, wanted: Wanted) -> list[str]:
    """Return the columns whose cells are text whatever they look like: those of categories, targets that are text."""
    features = [find_spelling(name, dialect.names) for name in wanted.text_features]
    if not wanted.text_targets:
        return features
    names = wanted.target if wanted.target is not None else wanted.known_targets
    names = (names,) if isinstance(names, str) else names or TARGET_NAMES
    return features + [find_spelling(name, dialect.names) for name in names]


def _parse_csv(path: Path, dialect: Dialect, text_columns: Sequence[str], only: Sequence[str] = ()) -> pa.Table:
    """Return the table; decimal commas are tried where they may be and cells would be text otherwise."""
    import pyarrow as pa

    table = _parse_csv_with(path, dialect, text_columns, only, ".")
    if dialect.may_have_decimal_commas and any(pa.types.is_string(column.type) for column in table.columns):
        other = _parse_csv_with(path, dialect, text_columns, only, ",")
        table = max(table, other, key=lambda found: sum(_is_numeric(column.type) for column in found.columns))
    return table


def _parse_csv_with(
    path: Path, dialect: Dialect, text_columns: Sequence[str], only: Sequence[str], decimal_point: str
) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    convert = csv.ConvertOptions(
        column_types={name: pa.string() for name in text_columns},
        include_columns=list(only),
        decimal_point=decimal_point,
    )
    # Without newlines_in_values, pyarrow cuts files of several blocks at line breaks inside quotes.
    parse = csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)
    block_bytes = CSV_BLOCK_BYTES
    with reading(path, "a CSV file"):
        while True:
            try:
                read = csv.ReadOptions(block_size=block_bytes, encoding=dialect.encoding)
                return csv.read_csv(str(path), read_options=read, parse_options=parse, convert_options=convert)
            except pa.ArrowInvalid as error:  # one line is longer than a block
                if "straddl" not in str(error) or block_bytes >= LARGEST_BLOCK_BYTES:
                    raise
                block_bytes *= 8


def _keep_codes(table: pa.Table, path: Path, dialect: Dialect, target: str) -> pa.Table:
    """Return the table with labels such as 01 as text, which as numbers would lose their zeros.

    Raises DataError where labels are the same number and yet written differently, as 1 and 1.0.
    """
    import pyarrow as pa
    from pyarrow import compute

    texts = _parse_csv(path, dialect, [target], [target]).column(target)
    column = table.column(target)
    if column.null_count:
        return table
    if compute.any(compute.match_substring_regex(texts, CODE)).as_py():
        return table.set_column(table.column_names.index(target), target, texts)
    pairs = pa.table({"text": texts, "number": column}).group_by("number").aggregate([("text", "min"), ("text", "max")])
    doubles = pairs.filter(compute.not_equal(pairs["text_min"], pairs["text_max"]))
    if doubles.num_rows:
        a, b = doubles["text_min"][0].as_py(), doubles["text_max"][0].as_py()
        raise DataError(
            f"column {target!r} of '{path}' writes one label in different ways, {a!r} and {b!r}; write them alike, "
            "or in words if they are different classes"
        )
    return table


def from_table(
    kind: SourceKind,
    origin: str,
    table: pa.Table,
    features: tuple[str, ...],
    targets: tuple[str, ...],
    first_row: int = 0,
) -> RawExamples:
    """Return a table's features and targets as NumPy arrays; messages call it `origin` and count from `first_row`."""
    if table.num_rows == 0:
        raise DataError(f"{origin} has columns but no rows; expected at least one example")
    x = _read_numbers(table, features, "feature", origin)
    y = read_target_columns(table, targets, origin) if targets else None
    return RawExamples(kind, origin, x, y, (len(features),), features, targets or None, first_row=first_row)


def read_target_columns(table: pa.Table, names: Sequence[str], origin: str) -> NDArray:
    """Return one column as (N,), text as objects, or several columns of numbers as (N, O)."""
    import pyarrow as pa

    if len(names) > 1:
        return _read_numbers(table, names, "target", origin)
    column = to_plain(table.column(names[0]))
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return _read_numbers(table, names, "target", origin)[:, 0]
    check_filled(column, names[0], origin)
    try:
        labels = np.array(column.to_pylist(), dtype=object)
    except UnicodeDecodeError as error:
        raise DataError(f"column {names[0]!r} of {origin} holds damaged text: {error}; write it again") from None
    if "" in labels:
        row = int(np.flatnonzero(labels == "")[0]) + 1
        raise DataError(f"column {names[0]!r} of {origin} is empty in data row {row}; fill it in or drop the row")
    return labels


def _read_numbers(table: pa.Table, names: Sequence[str], role: str, origin: str) -> NDArray:
    """Return columns as (N, K) in the smallest dtype that holds all their values."""
    columns = [_to_numbers(table.column(name), name, role, origin) for name in names]
    matrix = np.empty((table.num_rows, len(columns)), np.result_type(*map(_smallest_dtype, columns)))
    for number, column in enumerate(columns):
        matrix[:, number] = column.to_numpy()
    return matrix


def _to_numbers(column: pa.ChunkedArray, name: str, role: str, origin: str) -> pa.ChunkedArray:
    import pyarrow as pa

    check_filled(column, name, origin)
    column = to_plain(column)
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if _is_numeric(column.type):
        return column
    raise DataError(f"{role} column {name!r} of {origin} {_describe_unusable(column, role)}")


def _describe_unusable(column: pa.ChunkedArray, role: str) -> str:
    """Return the end of the sentence about a column that holds no numbers: what it holds, and what to do."""
    import pyarrow as pa
    from pyarrow import compute

    example = _quote(column[0])
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return f"holds bytes such as {example}; this is not UTF-8 text, so save it as UTF-8"
    if pa.types.is_temporal(column.type):
        use = "a number, such as days since the first" if role == "feature" else "numbers, or as words for classes"
        return f"holds dates or times ({column.type}) such as {example}; store them as {use}"
    if not pa.types.is_string(column.type):
        return f"holds {column.type} values such as {example}; store plain numbers, one in each cell"
    is_number = compute.match_substring_regex(column, NUMBER)
    num_others = len(column) - compute.sum(is_number).as_py()
    if num_others == len(column) or not num_others:
        advice = "encode it as numbers or drop it" if role == "feature" else "expected numbers"
        return f"holds text such as {example}; {advice}"
    row = is_number.index(False).as_py()
    text = column[row].as_py()
    advice = "fill it in, or drop the row or the column"
    if THOUSANDS.fullmatch(text):
        advice = f"write {text.strip().replace(',', '')} without separators"
    return (
        f"is {_quote(column[row])} in data row {row + 1}, which is no number, unlike others in this column "
        f"({num_others} such cells in all); {advice}"
    )


def _quote(value: pa.Scalar) -> str:
    return repr(str(value))[:LONGEST_EXAMPLE]


def _is_numeric(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _smallest_dtype(column: pa.ChunkedArray) -> np.dtype:
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_integer(column.type):
        dtype: np.dtype = pa.array([], column.type).to_numpy(zero_copy_only=False).dtype  # to_pandas_dtype wants pandas
        return dtype
    extent = compute.min_max(column).as_py()
    return np.result_type(np.min_scalar_type(extent["min"]), np.min_scalar_type(extent["max"]))


def check_filled(column: pa.ChunkedArray, name: str, origin: str, first_row: int = 0) -> None:
    """Raise DataError for the first empty cell of a column, whose first row is number `first_row` of the file."""
    if column.null_count:
        row = first_row + column.is_null().index(True).as_py() + 1
        raise DataError(
            f"column {name!r} of {origin} is empty in data row {row} ({column.null_count} empty cells in all); "
            "fill them in, or drop the rows or the column"
        )


def to_plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a categorical column as its plain values, and text as text, in whatever layout it is stored."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or pa.types.is_binary_view(column.type):
        with suppress(pa.ArrowInvalid):  # not UTF-8
            return column.cast(pa.large_binary()).cast(pa.large_string())
    return column
