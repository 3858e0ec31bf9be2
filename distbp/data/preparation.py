"""What is done with every column of a table: measured on the training part, stored in the run, the same for other data.

Numbers: gaps become the training part's mean, with an input that says so where the training part has gaps; then they
are scaled. Dates: each part is such a number. Categories: an input for each category of the training part, and one for
gaps where it has some; all of them are 0 for a category that it does not have. Ignored columns are not read.

Shape legend: N rows, n numbers, k columns of categories, I inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from distbp.config.recipe import ColumnKind
from distbp.data.cells import PARTS, describe_misfit, read_labels, read_moments, read_numbers, split_moments
from distbp.errors import DataError
from distbp.protocol.examples import Encoding, Scaling

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Number:
    """One number of a column. part: of a date, else None. has_gaps: in the training part; then an input says so.

    fill: what stands for a gap. The input is (value - shift) * scale; both are None where nothing is scaled.
    """

    part: str | None
    fill: float
    shift: float | None
    scale: float | None
    has_gaps: bool


@dataclass(frozen=True)
class Column:
    """One column of a table and what becomes of it.

    numbers: of kinds number and date. categories: the texts of a category, sorted. has_gaps: whether a category has an
    input for gaps, after the others. is_text: its cells are text, also where they look like numbers. why: the reason
    why a column is ignored, for people; else None.
    """

    name: str
    kind: ColumnKind
    numbers: tuple[Number, ...] = ()
    categories: tuple[str, ...] = ()
    has_gaps: bool = False
    is_text: bool = False
    why: str | None = None

    def name_numbers(self) -> list[str]:
        """Return what the inputs of its numbers are called."""
        return [self.name if number.part is None else f"{self.name}.{number.part}" for number in self.numbers]

    def name_categories(self) -> list[str]:
        """Return what the inputs of its categories are called; the last is that of gaps, if it has one."""
        gaps = [f"{self.name} is empty"] if self.kind == "category" and self.has_gaps else []
        return [f"{self.name}={category}" for category in self.categories] + gaps


@dataclass(frozen=True)
class Preparation:
    """All columns of a table, in its order, without the targets."""

    columns: tuple[Column, ...]

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that are not ignored."""
        return tuple(column for column in self.columns if column.kind != "ignore")

    @property
    def kinds(self) -> dict[str, ColumnKind]:
        """The kind of each column, as `data.columns` names it."""
        return {column.name: column.kind for column in self.columns}

    @property
    def numbers(self) -> list[Number]:
        """All numbers, in the order of their inputs."""
        return [number for column in self.columns for number in column.numbers]

    @property
    def categories(self) -> list[Column]:
        """The columns of categories, in the order of their codes."""
        return [column for column in self.columns if column.kind == "category"]

    def name_inputs(self) -> tuple[str, ...]:
        """Return what the I inputs are called: numbers, gaps, categories, as `Encoding` orders them."""
        names = [name for column in self.columns for name in column.name_numbers()]
        gaps = [f"{name} is empty" for name, number in zip(names, self.numbers, strict=True) if number.has_gaps]
        return (*names, *gaps, *(name for column in self.categories for name in column.name_categories()))

    def scaling(self) -> Scaling:
        """Return the scaling of the n numbers."""
        shifts = [number.shift for number in self.numbers if number.shift is not None]
        scales = [number.scale for number in self.numbers if number.scale is not None]
        return Scaling(np.array(shifts, np.float64), np.array(scales, np.float64)) if shifts else Scaling()

    def encoding(self) -> Encoding:
        """Return how rows become inputs."""
        numbers = self.numbers
        return Encoding(
            np.array([number.fill for number in numbers], np.float64),
            np.array([index for index, number in enumerate(numbers) if number.has_gaps], np.intp),
            tuple(len(column.categories) + column.has_gaps for column in self.categories),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the columns in JSON's types."""
        return list(_COLUMNS.dump_python(self.columns, mode="json"))

    @classmethod
    def from_json(cls, values: object) -> Preparation:
        """Return what `to_json` wrote. Raises DataError for anything else."""
        try:
            found = cls(_COLUMNS.validate_python(values))
        except ValidationError as error:
            finding = error.errors(include_url=False)[0]
            where = ".".join(map(str, finding["loc"]))
            raise DataError(f"a run's columns are damaged: {where}: {finding['msg']}; expected its own") from None
        scaled = {value is None for number in found.numbers for value in (number.shift, number.scale)}
        if len(scaled) > 1 or not found.used or not all(map(_is_whole, found.columns)):
            raise DataError("a run's columns contradict each other; they are damaged")
        return found


_COLUMNS = TypeAdapter(tuple[Column, ...])


def _is_whole(column: Column) -> bool:
    """Return whether a column has what its kind needs, and nothing else."""
    parts = [number.part for number in column.numbers]
    values = [v for n in column.numbers for v in (n.fill, n.shift, n.scale) if v is not None]
    if not np.isfinite(values).all() or bool(column.categories or column.has_gaps) != (column.kind == "category"):
        return False
    if column.kind == "number":
        return parts == [None]
    if column.kind == "date":
        return bool(parts) and set(parts) <= set(PARTS)
    return not parts


def encode_table(table: pa.Table, preparation: Preparation, origin: str) -> NDArray:
    """Return the rows of a table as `Encoding` takes them; a column's cells that do not fit are all named.

    Raises DataError for cells that are not of their column's kind.
    """
    problems: list[str] = []
    numbers: list[NDArray] = []
    codes: list[NDArray] = []
    for column in preparation.used:
        cells = table.column(column.name)
        if column.kind == "category":
            codes.append(encode_labels(cells, column))
        else:
            numbers += _read_parts(cells, column, problems)
    if problems:
        raise DataError(f"{origin}: {'; '.join(problems)}")
    return pack(numbers, codes, table.num_rows)


def _read_parts(cells: pa.ChunkedArray, column: Column, problems: list[str]) -> Iterator[NDArray]:
    if column.kind == "date":
        moments = read_moments(cells)
        if moments is not None:
            yield from (split_moments(moments, number.part or "year") for number in column.numbers)
            return
    elif (values := read_numbers(cells)) is not None:
        yield values
        return
    problems.append(describe_misfit(column.name, cells, column.kind))


def encode_labels(cells: pa.ChunkedArray, column: Column) -> NDArray:
    """Return the code of every row, (N,): 0 for what the column does not have, then its categories, then gaps."""
    import pyarrow as pa

    labels = read_labels(cells)
    known = pa.array(column.categories, pa.large_string())
    num_places = len(column.categories) + column.has_gaps
    if labels is None:
        return np.zeros(len(cells), np.min_scalar_type(num_places))
    from pyarrow import compute

    found = compute.index_in(labels, value_set=known).fill_null(-1).to_numpy().astype(np.int64) + 1
    if column.has_gaps:
        found[labels.is_null().to_numpy()] = num_places
    return np.asarray(found, np.min_scalar_type(num_places))


def pack(numbers: Sequence[NDArray], codes: Sequence[NDArray], num_rows: int) -> NDArray:
    """Return (N, n) numbers in the smallest dtype for all, or with codes (N,) records of "numbers" and "codes"."""
    number_dtype = np.result_type(*numbers) if numbers else np.dtype(np.uint8)
    if not codes:
        matrix = np.empty((num_rows, len(numbers)), number_dtype)
        for index, values in enumerate(numbers):
            matrix[:, index] = values
        return matrix
    kind = [("numbers", number_dtype, (len(numbers),)), ("codes", np.result_type(*codes), (len(codes),))]
    records = np.empty(num_rows, kind)
    for field, columns in (("numbers", numbers), ("codes", codes)):
        for index, values in enumerate(columns):
            records[field][:, index] = values
    return records


def numbers_of(x: NDArray) -> NDArray:
    """Return the (N, n) numbers of packed rows."""
    found: NDArray = x if x.dtype.names is None else x["numbers"]
    return found


def summarize(columns: Sequence[Column]) -> Mapping[str, list[Column]]:
    """Return the columns of each kind, for people."""
    kinds: dict[str, list[Column]] = {}
    for column in columns:
        kinds.setdefault(column.kind, []).append(column)
    return kinds
