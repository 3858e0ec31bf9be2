"""Examples of any source: arrays in memory, or blocks that are read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from distbp.config import Data
from distbp.data.blocks.look import Mapper
from distbp.data.blocks.preparing import (
    is_in_blocks,
    is_same_source,
    iterate_features,
    prepare_training,
    read_held_out,
)
from distbp.data.prepare import PreparedData
from distbp.data.prepare import prepare as prepare_arrays
from distbp.data.prepare import read_examples as read_arrays
from distbp.data.schema import Schema
from distbp.errors import DataError
from distbp.nn.blas import fixed_arithmetic
from distbp.protocol.examples import Examples
from distbp.protocol.supply import Supply, in_memory

Target = str | tuple[str, ...] | None


@fixed_arithmetic()
def prepare(data: Data, seed: int, mapper: Mapper | None = None) -> PreparedData:
    """Return the examples that `data` describes, the same for the same `data`, files and `seed`.

    A fraction is held out at random, by `seed`. A validation path is read whole with the training data's schema; of
    an IDX folder its t10k files are taken, if it has them. mapper: has blocks looked at; None: threads of this process.

    Raises DataError for whatever is wrong with the data, in one sentence.
    """
    named = data.validation if isinstance(data.validation, str) else None
    if not is_in_blocks(data.source):
        if named is None or not is_in_blocks(named):
            return prepare_arrays(data, seed)
        alone = prepare_arrays(data.model_copy(update={"validation": 0.0}), seed)
        return replace(
            alone,
            validation=read_examples(alone.schema, named),
            data=alone.data.model_copy(update={"validation": named}),
        )
    _check_settings(data)
    train, schema = prepare_training(data, seed, mapper)
    validation: Examples | Supply | None = replace(train, is_held_out=True) if data.validation else None
    if named is not None:
        _check_other(data.source, named)
        validation = read_examples(schema, named)
    if data.class_weights is not None:
        train = train.weigh_classes(data.class_weights)
    found = PreparedData(train, validation, schema, data)
    return found.scale_targets() if data.target_scaling == "standard" and found.facts().is_regression else found


def prepare_in_memory(data: Data, seed: int) -> PreparedData:
    """Return the examples that `data` describes as arrays, whatever they are. Raises DataError, also for too many."""
    return hold(prepare(data, seed))


def hold(data: PreparedData) -> PreparedData:
    """Return the same examples as arrays in memory. Raises DataError where there is too little of it."""
    validation = None if data.validation is None else in_memory(data.validation)
    return replace(data, train=in_memory(data.train), validation=validation)


def read_examples(schema: Schema, source: str, target: Target = None, need_targets: bool = True) -> Examples | Supply:
    """Return other examples, read as the run with this schema read its own: same columns, classes and scaling.

    Without `need_targets` they may be missing, and all examples are read into memory. Raises DataError.
    """
    if not is_in_blocks(source):
        return read_arrays(schema, source, target, need_targets)
    _check_columns(schema, source)
    if need_targets:
        with fixed_arithmetic():
            return read_held_out(schema, source, target).scale_targets(schema.targets)
    x = np.concatenate([part.x for part in iterate_features(schema, source, target)])
    return Examples(x, np.empty((len(x), 0)), np.arange(len(x)), schema.scaling)


def read_features(schema: Schema, source: str, target: Target = None) -> Iterator[Examples]:
    """Yield other examples without their targets, in parts that fit into memory. Raises DataError."""
    if is_in_blocks(source):
        _check_columns(schema, source)
        yield from iterate_features(schema, source, target)
    else:
        yield read_arrays(schema, source, target, need_targets=False)


def _check_settings(data: Data) -> None:
    """Refuse what data in blocks do not have."""
    if data.columns:
        raise DataError(
            f"data.columns is for tables that are read whole, and '{data.source}' is read in blocks; leave it out, "
            "or name a single file"
        )


def _check_columns(schema: Schema, source: str) -> None:
    if schema.columns is not None:
        raise DataError(f"the run was trained on a table, and '{source}' is read in blocks; name a single file")


def _check_other(source: str, validation: str) -> None:
    if is_in_blocks(validation) and is_same_source(source, validation):
        raise DataError(
            f"validation='{validation}' is the training data itself, which says nothing about new examples; "
            "name other data, or a fraction such as 0.2"
        )
