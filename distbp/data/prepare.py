"""From `recipe.data` to examples: read, say what the targets mean, split, measure the scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.config import Data
from distbp.config.settling import Facts
from distbp.data.finite import check_finite
from distbp.data.measuring import measure_targets
from distbp.data.prepare_table import encode_array, encode_examples, prepare_opened, prepare_table, want_features
from distbp.data.raw import RawExamples, Wanted
from distbp.data.scaling import measure_scaling
from distbp.data.schema import Schema, check_inputs
from distbp.data.sources import is_same_data, is_table_file, open_table, read_source
from distbp.data.split import split_rows
from distbp.data.tables import Table
from distbp.data.targets import TargetSpec, encode_targets, specify_targets
from distbp.data.weights import NO_CLASSES, read_weights, weigh_classes
from distbp.errors import DataError
from distbp.nn.blas import fixed_arithmetic
from distbp.protocol.examples import Examples, Scaling
from distbp.protocol.supply import Supply, in_memory


@dataclass(frozen=True)
class PreparedData:
    """Training examples, validation examples if there are any, and how both were read.

    Parts split from one source share its arrays; only their rows differ. data: the settings, of a table with
    everything that was chosen. notes: what was done with a table's columns and rows; warnings: what to look at.
    """

    train: Examples | Supply
    validation: Examples | Supply | None
    schema: Schema
    data: Data
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def facts(self) -> Facts:
        """Return what decides the values that a recipe leaves to the data."""
        has_many_labels = self.schema.labels is not None
        is_regression = self.schema.task == "regression" and not has_many_labels
        is_in_memory = isinstance(self.train, Examples)
        return Facts(self.schema.columns is not None, is_regression, len(self.train), has_many_labels, is_in_memory)

    def scale_targets(self) -> PreparedData:
        """Return the same data, whose targets (n, O) reach the network with mean 0 and standard deviation 1."""
        train = self.train
        targets = measure_targets(train.y[train.rows]) if isinstance(train, Examples) else train.measure_targets()
        validation = None if self.validation is None else scale_targets(self.validation, targets)
        schema = replace(self.schema, targets=targets)
        return replace(self, train=scale_targets(train, targets), validation=validation, schema=schema)


def scale_targets(examples: Examples | Supply, targets: Scaling) -> Examples | Supply:
    """Return the same examples, whose targets reach the network scaled."""
    return replace(examples, targets=targets) if isinstance(examples, Examples) else examples.scale_targets(targets)


@fixed_arithmetic()
def prepare(data: Data, seed: int) -> PreparedData:
    """Return the examples that `data` describes, the same for the same `data`, files and `seed`.

    A fraction is held out at random, by `seed`. A validation path is read whole with the training data's schema; of
    an IDX folder its t10k files are taken, if it has them. `data.target` is the training data's: validation arrays
    find theirs by name (x.npy, y.npy), validation tables in the same columns.

    Raises DataError for whatever is wrong with the data, in one sentence.
    """
    return _finish(_prepare_table(data, seed) if _has_kinds(data) else _prepare_arrays(data, seed), data)


def _finish(found: PreparedData, data: Data) -> PreparedData:
    if data.class_weights is not None:
        found = _weigh_classes(found, data.class_weights)
    return found.scale_targets() if data.target_scaling == "standard" and found.facts().is_regression else found


def _weigh_classes(found: PreparedData, wanted: Literal["balanced"] | Mapping[str, float]) -> PreparedData:
    """Return the same data, whose training examples count as their classes do."""
    train, classes = in_memory(found.train), found.schema.classes
    if classes is None or found.schema.target_shape:
        raise DataError(NO_CLASSES)
    weights = weigh_classes(train.y, train.rows, classes, wanted)
    return replace(found, train=replace(train, weights=weights if train.weights is None else train.weights * weights))


def _has_kinds(data: Data) -> bool:
    """Return whether the source is a table whose columns have kinds; those of older runs are all numbers."""
    return data.columns is not None and is_table_file(data.source)


def _prepare_arrays(data: Data, seed: int) -> PreparedData:
    if data.weight is not None:
        raise DataError(f"data.weight={data.weight} names a column, and '{data.source}' is no table with columns")
    return prepare_raw(read_source(data.source, Wanted(data.target, task=data.task)), data, seed)


@fixed_arithmetic()
def prepare_raw(
    raw: RawExamples,
    data: Data,
    seed: int,
    spec: TargetSpec | None = None,
    scaling: Scaling | None = None,
    weights: NDArray[np.float64] | None = None,
) -> PreparedData:
    """Return examples that have been read already, or never were in a file, split and scaled, targets as they are.

    spec, scaling: what the targets mean, and the inputs' scaling, where both are known before; None: by the examples.
    weights: (N,), what each example counts.
    """
    spec = spec or specify_targets(raw, data.task)
    fraction = 0.0 if isinstance(data.validation, str) else data.validation
    train_rows, validation_rows = split_rows(len(raw.x), fraction, seed)
    measured = measure_scaling(raw, train_rows, data.scaling if scaling is None else "none")  # it checks all values
    scaling = measured if scaling is None else scaling
    y = encode_targets(raw, spec)
    schema = _build_schema(raw, spec, scaling)
    train = Examples(raw.x, y, train_rows, scaling, weights=weights)
    if isinstance(data.validation, str):
        return PreparedData(train, _read_validation(schema, data.source, data.validation), schema, data)
    validation = None if validation_rows is None else replace(train, rows=validation_rows)
    return PreparedData(train, validation, schema, data)


@fixed_arithmetic()
def prepare_frame(table: Table, data: Data, seed: int) -> PreparedData:
    """Return the examples of a table in memory, its targets as they are; data.columns says what is known of columns."""
    found = prepare_opened(table, data, seed)
    return PreparedData(found.train, found.validation, found.schema, found.data, found.notes, found.warnings)


def _prepare_table(data: Data, seed: int) -> PreparedData:
    found = prepare_table(data, seed)
    validation = found.validation
    if isinstance(data.validation, str):
        validation = _read_validation(found.schema, data.source, data.validation)
    return PreparedData(found.train, validation, found.schema, found.data, found.notes, found.warnings)


@fixed_arithmetic()
def read_examples(
    schema: Schema, source: str, target: str | tuple[str, ...] | None = None, need_targets: bool = True
) -> Examples:
    """Return other data, read as the run with this schema read its own: same columns, classes and scaling.

    Columns of a table are matched by name, others are ignored; arrays and images are matched by shape. Of an IDX
    folder the t10k files are taken, if it has them. `target` None: the run's target columns, or by convention.
    Without `need_targets` the targets may be missing, and y is (N, 0) float64.

    Raises DataError for whatever is wrong with the data or does not fit the schema.
    """
    if schema.columns is not None and is_table_file(source):
        return encode_examples(open_table(source, want_features(schema, target, need_targets)), schema, need_targets)
    wanted = Wanted(
        target=target,
        need_targets=need_targets,
        held_out=True,
        feature_names=schema.feature_names,
        known_targets=schema.target_names,
        text_targets=schema.classes is not None and isinstance(schema.classes[0], str),
        weight=schema.weight if need_targets else None,
    )
    raw = _read_other(source, wanted)
    if schema.columns is not None:
        return _read_array_for_table(raw, schema, need_targets)
    check_inputs(raw, schema)
    check_finite(raw.x, raw.locate_input, raw.origin)
    if need_targets:
        y = encode_targets(raw, TargetSpec(schema.task, schema.classes, schema.num_outputs, schema.target_shape))
    else:
        y = np.empty((len(raw.x), 0))
    targets = schema.targets if need_targets else Scaling()
    return Examples(raw.x, y, np.arange(len(raw.x)), schema.scaling, None, targets, raw.weights)


def _read_other(source: str, wanted: Wanted) -> RawExamples:
    """Return other data than those of training, with their weights where these are wanted and there are some."""
    if wanted.weight is None or not is_table_file(source):
        return read_source(source, wanted)
    table = open_table(source, wanted)
    return replace(table.to_examples(), weights=read_weights(table))


def _read_array_for_table(raw: RawExamples, schema: Schema, need_targets: bool) -> Examples:
    examples = encode_array(raw, schema)
    if not need_targets:
        return examples
    y = encode_targets(raw, TargetSpec(schema.task, schema.classes, schema.num_outputs, schema.target_shape))
    return replace(examples, y=y, targets=schema.targets)


def _build_schema(raw: RawExamples, spec: TargetSpec, scaling: Scaling) -> Schema:
    return Schema(
        source_kind=raw.kind,
        num_inputs=raw.x.shape[1],
        input_shape=raw.input_shape,
        feature_names=raw.feature_names,
        target_names=raw.target_names,
        task=spec.task,
        classes=spec.classes,
        num_outputs=spec.num_outputs,
        scaling=scaling,
        target_shape=spec.target_shape,
        integer_inputs=raw.x.dtype.kind in "iu" and scaling.shift is None and scaling.scale is None,
    )


def _read_validation(schema: Schema, source: str, validation: str) -> Examples:
    if is_same_data(source, validation):
        raise DataError(
            f"validation='{validation}' is the training data itself, which says nothing about new examples; "
            "name other data, or a fraction such as 0.2"
        )
    return read_examples(schema, validation)
