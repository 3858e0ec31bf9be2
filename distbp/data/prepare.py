"""From `recipe.data` to examples: read, say what the targets mean, split, measure the scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distbp.config import Data
from distbp.data.finite import check_finite
from distbp.data.raw import RawExamples, Wanted
from distbp.data.scaling import measure_scaling
from distbp.data.schema import Schema, check_inputs
from distbp.data.sources import is_same_data, read_source
from distbp.data.split import split_rows
from distbp.data.targets import TargetSpec, encode_targets, specify_targets
from distbp.errors import DataError
from distbp.nn.blas import fixed_arithmetic
from distbp.protocol.examples import Examples, Scaling
from distbp.protocol.supply import Supply


@dataclass(frozen=True)
class PreparedData:
    """Training examples, validation examples if there are any, and how both were read.

    Parts split from one source share its arrays; only their rows differ.
    """

    train: Examples | Supply
    validation: Examples | Supply | None
    schema: Schema


@fixed_arithmetic()
def prepare(data: Data, seed: int) -> PreparedData:
    """Return the examples that `data` describes, the same for the same `data`, files and `seed`.

    A fraction is held out at random, by `seed`. A validation path is read whole with the training data's schema; of
    an IDX folder its t10k files are taken, if it has them. `data.target` is the training data's: validation arrays
    find theirs by name (x.npy, y.npy), validation tables in the same columns.

    Raises DataError for whatever is wrong with the data, in one sentence.
    """
    return prepare_raw(read_source(data.source, Wanted(data.target, task=data.task)), data, seed)


@fixed_arithmetic()
def prepare_raw(
    raw: RawExamples, data: Data, seed: int, spec: TargetSpec | None = None, scaling: Scaling | None = None
) -> PreparedData:
    """Return examples that have been read already, or never were in a file, as `prepare` returns those of a source.

    spec, scaling: what the targets mean, and the inputs' scaling, where both are known before; None: by the examples.
    """
    spec = spec or specify_targets(raw, data.task)
    fraction = 0.0 if isinstance(data.validation, str) else data.validation
    train_rows, validation_rows = split_rows(len(raw.x), fraction, seed)
    measured = measure_scaling(raw, train_rows, data.scaling if scaling is None else "none")  # it checks all values
    scaling = measured if scaling is None else scaling
    schema = _build_schema(raw, spec, scaling)
    y = encode_targets(raw, spec)
    train = Examples(raw.x, y, train_rows, scaling)
    if isinstance(data.validation, str):
        return PreparedData(train, _read_validation(schema, data.source, data.validation), schema)
    validation = None if validation_rows is None else Examples(raw.x, y, validation_rows, scaling)
    return PreparedData(train, validation, schema)


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
    wanted = Wanted(
        target=target,
        need_targets=need_targets,
        held_out=True,
        feature_names=schema.feature_names,
        known_targets=schema.target_names,
        text_targets=schema.classes is not None and isinstance(schema.classes[0], str),
    )
    raw = read_source(source, wanted)
    check_inputs(raw, schema)
    check_finite(raw.x, raw.locate_input, raw.origin)
    if need_targets:
        y = encode_targets(raw, TargetSpec(schema.task, schema.classes, schema.num_outputs, schema.target_shape))
    else:
        y = np.empty((len(raw.x), 0))
    return Examples(raw.x, y, np.arange(len(raw.x)), schema.scaling)


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
