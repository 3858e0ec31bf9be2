"""What `distbp train` would make of a table: each column's kind, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distbp.config import Data
from distbp.data.preparation import Column
from distbp.data.prepare import prepare
from distbp.data.sources import is_table_file
from distbp.errors import DataError


@dataclass(frozen=True)
class TableDescription:
    """columns: name and what becomes of it. inputs: of the network. notes, warnings: what was done, what to look at."""

    rows: int
    inputs: int
    task: str
    columns: dict[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def describe_table(
    source: str,
    target: str | tuple[str, ...] | None = None,
    task: Literal["classification", "regression"] | None = None,
) -> TableDescription | None:
    """Return what would be made of a table file; None for other sources.

    Raises DataError for a table that cannot be trained on.
    """
    if not is_table_file(source):
        return None
    data = prepare(Data(source=source, target=target, task=task, validation=0.0), seed=0)
    assert data.schema.columns is not None  # it is a table
    columns = {column.name: describe_column(column) for column in data.schema.columns.columns}
    return TableDescription(
        len(data.train), data.schema.num_inputs, data.data.task or "", columns, data.notes, data.warnings
    )


def describe_column(column: Column) -> str:
    """Return what becomes of a column, such as "category: 3 values and gaps"."""
    gaps = " and gaps" if column.has_gaps or any(number.has_gaps for number in column.numbers) else ""
    if column.kind == "ignore":
        return f"ignored: {column.why}"
    if column.kind == "category":
        return f"category: {len(column.categories)} values{gaps}"
    if column.kind == "date":
        return f"date: {', '.join(str(number.part) for number in column.numbers)}{gaps}"
    return f"number{gaps}"


def try_describing(
    source: str, target: str | tuple[str, ...] | None, task: Literal["classification", "regression"] | None
) -> tuple[TableDescription | None, DataError | None]:
    """Return the same, or why a table cannot be trained on; neither for other sources."""
    try:
        return describe_table(source, target, task), None
    except DataError as error:
        return None, error
