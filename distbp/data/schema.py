"""What a run remembers of its data, so that other data are read in the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, StrictStr, ValidationError

from distbp.data.preparation import Preparation
from distbp.data.raw import RawExamples, SourceKind
from distbp.errors import DataError
from distbp.protocol.examples import Scaling


@dataclass(frozen=True)
class Schema:
    """The meaning of inputs and outputs; I inputs, O outputs.

    input_shape: (28, 28) for images, (I,) otherwise.
    feature_names, target_names: the columns of a CSV or Parquet file in order, else None.
    classes: class number -> label; None for regression.
    num_outputs: the number of classes, or of targets.
    target_shape: (T,) where an example has a sequence of classes, else ().
    integer_inputs: they are stored as whole numbers and not scaled, such as tokens.
    scaling: (I,) float64 arrays or none, measured on the training part; of a table that of its numbers.
    columns: of a table, what is done with each of its columns, and feature_names are those of the inputs; else None.
    targets: the scaling of the targets, (O,) float64 arrays or none. weight: the column with the weights of a table.
    labels: where each of O targets is one of two classes, the labels of 0 and of 1; then the task is a regression on
    0 and 1, and its outputs are probabilities.
    """

    source_kind: SourceKind
    num_inputs: int
    input_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    task: Literal["classification", "regression"]
    classes: tuple[str | int | bool, ...] | None
    num_outputs: int
    scaling: Scaling
    target_shape: tuple[int, ...] = ()
    integer_inputs: bool = False
    columns: Preparation | None = None
    targets: Scaling = field(default_factory=Scaling)
    weight: str | None = None
    labels: tuple[tuple[str, str], ...] | None = None

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape of one example as it is given in an array."""
        return self.input_shape if self.columns is None else (len(self.columns.used),)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the scaling of inputs that are no table's in JSON's types."""
        new = {name for name in ("weight", "labels") if getattr(self, name) is None}
        apart = {"scaling", "columns", "targets", *new}
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in apart}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        if self.columns is not None:
            plain["columns"] = self.columns.to_json()
        if self.targets.shift is not None and self.targets.scale is not None:
            plain["targets"] = {"shift": self.targets.shift.tolist(), "scale": self.targets.scale.tolist()}
        return plain

    @classmethod
    def from_json(cls, values: object, scaling: Scaling) -> Schema:
        """Return the schema that `to_json` wrote, in this version or another; raises DataError for anything else."""
        try:
            stored = _StoredSchema.model_validate(values)
        except ValidationError as error:
            finding = error.errors(include_url=False)[0]
            where = ".".join(map(str, finding["loc"])) or "the schema"
            raise DataError(f"a run's data schema is damaged: {where}: {finding['msg']}; expected its own") from None
        given = {
            name: getattr(stored, name) for name in _StoredSchema.model_fields if name not in ("columns", "targets")
        }
        columns = None if stored.columns is None else Preparation.from_json(stored.columns)
        targets = Scaling() if stored.targets is None else stored.targets.to_scaling()
        scaling = columns.scaling() if columns is not None and scaling.shift is None else scaling
        schema = cls(**given, scaling=scaling, columns=columns, targets=targets)
        if contradiction := _find_contradiction(schema):
            raise DataError(f"a run's data schema contradicts itself: {contradiction}; it is damaged")
        return schema


def check_inputs(raw: RawExamples, schema: Schema) -> None:
    """Raise DataError unless the inputs have the shape that the run was trained on."""
    found, expected = raw.input_shape, schema.input_shape
    if raw.x.shape[1] != schema.num_inputs or (len(found) > 1 and len(expected) > 1 and found != expected):
        raise DataError(f"the inputs of {raw.origin} have shape {found}; the run was trained on {expected}")


_Count = Annotated[StrictInt, Field(gt=0)]
_Names = tuple[StrictStr, ...]


class _StoredScaling(BaseModel):
    shift: list[FiniteFloat]
    scale: list[FiniteFloat]

    def to_scaling(self) -> Scaling:
        return Scaling(np.array(self.shift, np.float64), np.array(self.scale, np.float64))


class _StoredSchema(BaseModel):
    model_config = ConfigDict(extra="ignore")

    source_kind: SourceKind
    num_inputs: _Count
    input_shape: tuple[_Count, ...]
    feature_names: _Names | None
    target_names: _Names | None
    task: Literal["classification", "regression"]
    classes: tuple[StrictBool | StrictInt | StrictStr, ...] | None
    num_outputs: _Count
    target_shape: tuple[_Count, ...] = ()
    integer_inputs: StrictBool = False
    columns: list[Any] | None = None
    targets: _StoredScaling | None = None
    weight: StrictStr | None = None
    labels: tuple[tuple[StrictStr, StrictStr], ...] | None = None


def _find_contradiction(schema: Schema) -> str | None:
    num_inputs = schema.num_inputs
    if math.prod(schema.input_shape) != num_inputs or not schema.input_shape:
        return f"input_shape={schema.input_shape} is not num_inputs={num_inputs} values"
    if schema.feature_names is not None and len(schema.feature_names) != num_inputs:
        return f"{len(schema.feature_names)} feature_names for num_inputs={num_inputs}"
    if (schema.classes is None) != (schema.task == "regression"):
        return f"task={schema.task} with classes={schema.classes}"
    if schema.classes is not None and len(set(schema.classes)) != schema.num_outputs:
        return f"{len(set(schema.classes))} classes for num_outputs={schema.num_outputs}"
    if schema.labels is not None and len(schema.labels) != schema.num_outputs:
        return f"labels of {len(schema.labels)} targets for num_outputs={schema.num_outputs}"
    if schema.targets.shift is not None and (
        len(schema.targets.shift) != schema.num_outputs or schema.targets.scale.shape != schema.targets.shift.shape  # type: ignore[union-attr]  # both or none
    ):
        return f"scaling of {len(schema.targets.shift)} targets for num_outputs={schema.num_outputs}"
    if schema.columns is not None:
        expected = schema.columns.encoding().num_inputs
        if expected != num_inputs:
            return f"columns of {expected} inputs for num_inputs={num_inputs}"
        return _find_scaling_contradiction(schema.scaling, len(schema.columns.numbers))
    return _find_scaling_contradiction(schema.scaling, num_inputs)


def _find_scaling_contradiction(scaling: Scaling, num_inputs: int) -> str | None:
    if scaling.shift is None and scaling.scale is None:
        return None
    if scaling.shift is None or scaling.scale is None:
        return "scaling has only one of shift and scale"
    if not scaling.shift.shape == scaling.scale.shape == (num_inputs,):
        return f"scaling of shapes {scaling.shift.shape} and {scaling.scale.shape} for num_inputs={num_inputs}"
    return None
