"""From a table to examples: columns of any kind, rows without a target left out, all measured on training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distbp.config import Data
from distbp.config.recipe import ColumnKind
from distbp.data.kinds import Choice
from distbp.data.measuring import check_usable, measure_table
from distbp.data.preparation import Preparation, encode_table
from distbp.data.raw import RawExamples, Wanted
from distbp.data.repeats import find_repeats
from distbp.data.schema import Schema
from distbp.data.sources import open_table
from distbp.data.split import split_rows
from distbp.data.table_targets import choose_task, find_labels, keep_rows_with_targets, number_labels
from distbp.data.tables import Table
from distbp.data.targets import TargetSpec, Task, encode_targets, specify_targets
from distbp.data.weights import read_weights
from distbp.errors import DataError
from distbp.protocol.examples import Examples, Scaling


@dataclass(frozen=True)
class PreparedTable:
    """A table's examples. data: the settings, all chosen. notes: what was done. warnings: what to look at."""

    train: Examples
    validation: Examples | None
    schema: Schema
    data: Data
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def prepare_table(data: Data, seed: int) -> PreparedTable:
    """Return the examples of the table that `data` describes. Raises DataError for whatever is wrong with it."""
    assert data.columns is not None  # else it is a table of numbers
    named = data.columns
    text = tuple(name for name, kind in named.items() if kind == "category")
    wanted = Wanted(data.target, task=data.task, text_features=text, any_names=True, weight=data.weight)
    return prepare_opened(open_table(data.source, wanted), data, seed)


def prepare_opened(table: Table, data: Data, seed: int) -> PreparedTable:
    """Return the examples of a table whose cells have been read. Raises DataError as `prepare_table` does."""
    assert data.columns is not None  # as above
    named = data.columns
    _check_not_targets(named, table)
    table, y, notes = keep_rows_with_targets(table, data.task)
    labels = find_labels(y, table.targets)
    if labels is not None:
        y = number_labels(y, labels, table.origin)
    task, task_notes = choose_task(y, "regression" if labels else data.task, table)
    raw = RawExamples(table.kind, table.origin, np.empty((len(y), 0)), y, (0,), None, table.targets)
    spec = specify_targets(raw, task)
    fraction = 0.0 if isinstance(data.validation, str) else data.validation
    train_rows, validation_rows = split_rows(len(y), fraction, seed)
    preparation, x, choices = measure_table(table, named, train_rows, data.scaling)
    encoded = encode_targets(raw, spec)
    schema = replace(_build_schema(table, spec, preparation), labels=labels)
    train = _make_examples(x, encoded, train_rows, schema, read_weights(table))
    validation = None if validation_rows is None else replace(train, rows=validation_rows)
    chosen = "classification" if labels else spec.task
    settled = data.model_copy(update={"columns": preparation.kinds, "task": chosen})
    told = (*notes, *task_notes, *_describe_columns(preparation, choices))
    warnings = tuple(f"column {c.name!r} {c.why}, so it is ignored" for c in choices if c.why and c.name not in named)
    are_classes = labels is not None or spec.task == "classification"
    repeats = (
        f"column {name!r} repeats the target, so the network may learn nothing else; set data.columns to ignore for it "
        "if you do not know it when you predict"
        for name in find_repeats(x, preparation, encoded, train_rows, are_classes)
        if name not in named
    )
    return PreparedTable(train, validation, schema, settled, told, (*warnings, *repeats))


def want_features(schema: Schema, target: str | tuple[str, ...] | None = None, need_targets: bool = False) -> Wanted:
    """Return what is read of other tables: the columns that are used, by name."""
    assert schema.columns is not None
    return Wanted(
        target=target,
        need_targets=need_targets,
        held_out=True,
        feature_names=tuple(column.name for column in schema.columns.used),
        known_targets=schema.target_names,
        weight=schema.weight if need_targets else None,
        text_targets=schema.classes is not None and isinstance(schema.classes[0], str),
        task=schema.task,
        text_features=tuple(column.name for column in schema.columns.used if column.is_text),
        any_names=True,
    )


def encode_examples(table: Table, schema: Schema, need_targets: bool) -> Examples:
    """Return other data as the run with this schema sees them; rows without a target are left out where it is needed.

    Raises DataError for cells, labels and targets that do not fit.
    """
    assert schema.columns is not None
    y, weights = np.empty((table.cells.num_rows, 0)), None
    if need_targets:
        task: Task = "classification" if schema.labels else schema.task
        table, found, _ = keep_rows_with_targets(table, task)
        found = found if schema.labels is None else number_labels(found, schema.labels, table.origin)
        raw = RawExamples(table.kind, table.origin, np.empty((len(found), 0)), found, (0,), None, table.targets)
        y = encode_targets(raw, TargetSpec(schema.task, schema.classes, schema.num_outputs, schema.target_shape))
        weights = read_weights(table)
    names = [column.name for column in schema.columns.used]  # accents may be composed in another way
    cells = table.cells.select(list(table.features)).rename_columns(names)
    x = encode_table(cells, schema.columns, table.origin)
    check_usable(x, schema.columns, table.origin)
    return _make_examples(x, y, np.arange(len(y)), schema, weights)


def encode_array(raw: RawExamples, schema: Schema) -> Examples:
    """Return an array's examples (N, n), a column for each that the run uses; NaN is a gap.

    Raises DataError where the run has columns of another kind than numbers.
    """
    assert schema.columns is not None
    used = schema.columns.used
    others = [column for column in used if column.kind != "number"]
    if others:
        raise DataError(
            f"{raw.origin} has no names, and the run has the {others[0].kind} column {others[0].name!r}; give a table "
            "with the columns that the run was trained on"
        )
    if raw.x.shape[1] != len(used):
        names = ", ".join(column.name for column in used[:6])
        raise DataError(
            f"the inputs of {raw.origin} have shape {raw.input_shape}; "
            f"the run was trained on {schema.raw_shape}: {names}"
        )
    check_usable(raw.x, schema.columns, raw.origin)
    return _make_examples(raw.x, np.empty((len(raw.x), 0)), np.arange(len(raw.x)), schema)


def _make_examples(
    x: NDArray, y: NDArray, rows: NDArray[np.int64], schema: Schema, weights: NDArray[np.float64] | None = None
) -> Examples:
    assert schema.columns is not None
    targets = schema.targets if y.ndim == 2 and y.shape[1] else Scaling()
    return Examples(x, y, rows, schema.scaling, schema.columns.encoding(), targets, weights)


def _check_not_targets(named: Mapping[str, ColumnKind], table: Table) -> None:
    wrong = [name for name in named if name in table.targets]
    if wrong:
        raise DataError(f"data.columns names {wrong[0]!r}, which is the target; leave it out there")


def _build_schema(table: Table, spec: TargetSpec, preparation: Preparation) -> Schema:
    names = preparation.name_inputs()
    return Schema(
        source_kind=table.kind,
        num_inputs=len(names),
        input_shape=(len(names),),
        feature_names=names,
        target_names=table.targets,
        task=spec.task,
        classes=spec.classes,
        num_outputs=spec.num_outputs,
        scaling=preparation.scaling(),
        target_shape=spec.target_shape,
        columns=preparation,
        weight=table.weight,
    )


def _describe_columns(preparation: Preparation, choices: Sequence[Choice]) -> list[str]:
    """Return in a few lines what becomes of the columns."""
    kinds = {kind: [c for c in preparation.columns if c.kind == kind] for kind in ("number", "category", "date")}
    numbers = [c.name + (" (gaps)" if any(n.has_gaps for n in c.numbers) else "") for c in kinds["number"]]
    categories = [f"{c.name} ({len(c.categories) + c.has_gaps})" for c in kinds["category"]]
    dates = [f"{c.name} ({', '.join(str(n.part) for n in c.numbers)})" for c in kinds["date"]]
    shown = {"numbers": numbers, "categories": categories, "dates": dates}
    lines = [f"{kind}: {_shorten(names)}" for kind, names in shown.items() if names]
    return [*lines, *(f"column {choice.name!r} {choice.note}" for choice in choices if choice.note)]


def _shorten(names: Sequence[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
