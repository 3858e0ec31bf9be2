"""The one place where a user's X enters: from what scikit-learn's users hand over to examples as distbp reads them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from distbp.config import Data
from distbp.data import PreparedData, Schema, take_features
from distbp.data.prepare import prepare_frame, prepare_raw
from distbp.data.prepare_table import encode_examples
from distbp.data.raw import RawExamples
from distbp.data.split import split_rows
from distbp.data.tables import Table
from distbp.data.targets import TargetSpec
from distbp.protocol.examples import Examples
from distbp.protocol.supply import in_memory

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Targets:
    """What is learned. y: (n,) class numbers, or (n, O) values. spec: what they mean. weights: (n,), None: all 1."""

    y: NDArray
    spec: TargetSpec
    weights: NDArray[np.float64] | None


def read_inputs(
    estimator: Any, x: object, reset: bool, known: Schema | None = None, named: Collection[str] = ()
) -> NDArray | pa.Table:
    """Return X (n, I) in its own number format, or a table where columns are of other kinds than numbers, or have gaps.

    Its columns are noted in the estimator, or held against those noted. known: of the network that training goes on
    with, or that predicts. named: columns whose kind the user names, which only a table has.

    Raises ValueError or TypeError in scikit-learn's words, for other columns, NaN, text, and sparse matrices.
    """
    if named and not hasattr(x, "__arrow_c_stream__"):
        raise ValueError(
            f"recipe names the kind of the column {min(named)!r}, and X is a {type(x).__name__}, whose columns have no "
            "names; give a table (pandas, polars or Arrow)"
        )
    if known is None and (table := _read_mixed(x, bool(named))) is not None:
        validate_data(estimator, x, reset=reset, skip_check_array=True)
        return table
    if known is not None and known.columns is not None and hasattr(x, "__arrow_c_stream__"):
        return _to_arrow(x)
    found: NDArray = validate_data(estimator, x, reset=reset, dtype="numeric", order="C")
    return found.astype(np.float64) if found.dtype == np.longdouble else found


def prepare_examples(
    estimator: Any, x: NDArray | pa.Table, targets: Targets, data: Data, seed: int, known: Schema | None
) -> PreparedData:
    """Return the examples of x with their targets, split as `data` says.

    known: columns, scaling and classes of the network that training goes on with; None: all are measured.
    """
    if not isinstance(x, np.ndarray):
        return _prepare_table(x, targets, data, seed, known)
    names = getattr(estimator, "feature_names_in_", None)
    raw = RawExamples("npz", "X", x, targets.y, (x.shape[1],), None if names is None else tuple(map(str, names)))
    scaling = None if known is None else known.scaling
    found = prepare_raw(raw, data, seed, targets.spec, scaling, targets.weights)
    return found if known is None else _scale_as(found, known)


def read_features(estimator: Any, schema: Schema, x: object) -> Examples:
    """Return what a network with this schema is to predict; raises as `read_inputs` does."""
    return take_features(schema, read_inputs(estimator, x, reset=False, known=schema))


def _read_mixed(x: object, has_kinds: bool) -> pa.Table | None:
    """Return a table that is not numbers without gaps, or whose columns get kinds; None for anything else."""
    if not hasattr(x, "__arrow_c_stream__"):
        return None
    table = _to_arrow(x)
    return None if not has_kinds and all(_is_all_numbers(column) for column in table.columns) else table


def _to_arrow(x: Any) -> pa.Table:
    """Return a table's columns; of pandas those that have names, without the index."""
    import pyarrow as pa

    return pa.Table.from_pandas(x, preserve_index=False) if hasattr(x, "iloc") else pa.table(x)


def _is_all_numbers(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    types = pa.types
    kind = column.type
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return is_number and column.null_count == 0


def _prepare_table(x: pa.Table, targets: Targets, data: Data, seed: int, known: Schema | None) -> PreparedData:
    table = _join(x, targets)
    if known is not None:
        numbered = replace(known, classes=targets.spec.classes)
        examples = encode_examples(replace(table, features=_find_used(known)), numbered, need_targets=True)
        return _split(examples, known, data, seed)
    found = prepare_frame(table, data, seed)
    if found.schema.num_outputs != targets.spec.num_outputs:
        raise ValueError(
            "the first call of partial_fit with a table of several kinds of columns needs an example of each class"
        )
    return found


def _split(examples: Examples, schema: Schema, data: Data, seed: int) -> PreparedData:
    """Return encoded examples, split as `data` says: the same examples and seed give the rows of the first fit."""
    assert not isinstance(data.validation, str)  # a part of these examples, or none
    train, held_out = split_rows(len(examples.rows), data.validation, seed)
    validation = None if held_out is None else replace(examples, rows=examples.rows[held_out])
    return PreparedData(replace(examples, rows=examples.rows[train]), validation, schema, data)


def _find_used(schema: Schema) -> tuple[str, ...]:
    assert schema.columns is not None  # of a table
    return tuple(column.name for column in schema.columns.used)


def _join(x: pa.Table, targets: Targets) -> Table:
    """Return x with its targets and weights as columns whose names it does not have."""
    free = "_" * max(map(len, x.column_names))
    names = [f"y{free}{number}" for number in range(1 if targets.y.ndim == 1 else targets.y.shape[1])]
    cells = x
    for name, column in zip(names, targets.y.reshape(len(targets.y), -1).T, strict=True):
        cells = cells.append_column(name, [column])
    weight = None if targets.weights is None else f"w{free}"
    if weight is not None:
        cells = cells.append_column(weight, [targets.weights])
    return Table("parquet", "X", cells, tuple(x.column_names), tuple(names), weight)


def _scale_as(found: PreparedData, known: Schema) -> PreparedData:
    """Return the same examples, whose targets are scaled as those of `known`."""
    train = replace(in_memory(found.train), targets=known.targets)
    validation = None if found.validation is None else replace(in_memory(found.validation), targets=known.targets)
    schema = replace(found.schema, targets=known.targets)
    return replace(found, train=train, validation=validation, schema=schema)
