"""What early stopping watches: the validation loss, or another measure, of which the driver asks the network itself.

A measure that is to rise is watched as its negative, so what is watched is always to fall: an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distbp.config.recipe import Measure
from distbp.data import Schema
from distbp.errors import ConfigError
from distbp.nn.blas import compute_exactly, fixed_arithmetic
from distbp.protocol.examples import Examples
from distbp.protocol.messages import Evaluation
from distbp.protocol.supply import EVALUATION_CHUNK, open_held_out
from distbp.training.measures import measure_classes, measure_labels, measure_numbers
from distbp.training.plan import Plan

TO_FALL: tuple[Measure, ...] = ("loss", "log_loss", "rmse", "mae")
OF_CLASSES: tuple[Measure, ...] = ("accuracy", "balanced_accuracy", "log_loss", "roc_auc", "average_precision")
OF_LABELS: tuple[Measure, ...] = ("roc_auc", "average_precision", "exact_match")
OF_NUMBERS: tuple[Measure, ...] = ("rmse", "mae", "r2")
NEED_EACH_CLASS: tuple[Measure, ...] = ("roc_auc", "average_precision")


def check_monitor(plan: Plan) -> None:
    """Raise ConfigError where the measure that is watched is none of the task, or cannot be taken."""
    name = plan.recipe.early_stopping.monitor
    if name == "loss":
        return
    where = f"early_stopping.monitor={name}"
    validation, known = plan.data.validation, list_measures(plan)
    if validation is None:
        raise ConfigError(f"{where} needs validation data; set data.validation, for example 0.2")
    if name not in known:
        raise ConfigError(f"{where} is no measure of {_describe_task(plan)}; use {', '.join(known)}")
    if name in NEED_EACH_CLASS and isinstance(validation, Examples) and not _has_each_class(plan.schema, validation):
        raise ConfigError(f"{where} needs a validation example of each class; hold out more, or watch another measure")


def list_measures(plan: Plan) -> tuple[Measure, ...]:
    """Return what can be watched in a run of this plan; of data in blocks and of sequences only what workers sum up."""
    schema = plan.schema
    if plan.recipe.model.has_own_loss or not isinstance(plan.data.validation, Examples) or schema.target_shape:
        return ("loss", "accuracy") if schema.task == "classification" else ("loss",)
    if schema.classes is not None:
        return ("loss", *OF_CLASSES)
    if schema.labels is not None:
        return ("loss", *OF_LABELS)
    return ("loss", *OF_NUMBERS)


class Monitor:
    """Takes the measure that a plan watches."""

    def __init__(self, plan: Plan):
        """Build nothing yet: most runs watch the loss."""
        self._plan = plan
        self._name = plan.recipe.early_stopping.monitor

    @property
    def name(self) -> Measure:
        """What is watched."""
        return self._name

    def measure(self, evaluation: Evaluation, take_parameters: Callable[[], NDArray]) -> float | None:
        """Return the measure of the parameters that were evaluated; None where it is the loss.

        take_parameters: gives them, (num_parameters,); it is called only where they are needed.
        """
        if self._name == "loss":
            return None
        if self._name == "accuracy":
            assert evaluation.accuracy is not None  # of classes
            return evaluation.accuracy
        return self._take(take_parameters())

    def to_error(self, value: float | None) -> float | None:
        """Return what is to fall: the measure, or its negative."""
        return value if value is None or self._name in TO_FALL else -value

    @fixed_arithmetic()
    def _take(self, parameters: NDArray) -> float:
        validation, schema = self._plan.data.validation, self._plan.schema
        assert isinstance(validation, Examples)  # checked before the run
        outputs, y = self._predict(parameters, validation), validation.y[validation.rows]
        weights = validation.take_weights(slice(None))
        if schema.classes is not None:
            return float(getattr(measure_classes(outputs, y, weights), self._name))
        if schema.labels is not None:
            return float(getattr(measure_labels(outputs, y, weights), self._name))
        if schema.targets.shift is not None and schema.targets.scale is not None:
            outputs = outputs.astype(np.float64) / schema.targets.scale + schema.targets.shift
        return float(getattr(measure_numbers(outputs, y, weights), self._name))

    def _predict(self, parameters: NDArray, validation: Examples) -> NDArray:
        """Return the outputs (n, O)."""
        spec = self._plan.worker.model
        model = spec.build()
        predict = partial(model.predict, model.layout.views(parameters))
        held_out = open_held_out(validation, spec.dtype)
        chunks = range(-(-len(validation) // EVALUATION_CHUNK))
        held_out.begin(chunks)
        with spec.pinned():
            return np.concatenate([compute_exactly(partial(predict, held_out.take(chunk)[0])) for chunk in chunks])


def _has_each_class(schema: Schema, validation: Examples) -> bool:
    y, weights = validation.y[validation.rows], validation.take_weights(slice(None))
    y = y if weights is None else y[weights > 0]
    if schema.classes is not None:
        return len(np.unique(y)) == len(schema.classes)
    return bool(((y > 0).any(axis=0) & (y == 0).any(axis=0)).all())


def _describe_task(plan: Plan) -> str:
    if plan.recipe.model.has_own_loss:
        return "a loss of your own"
    if not isinstance(plan.data.validation, Examples):
        return "data in blocks"
    if plan.schema.labels is not None:
        return "several labels"
    return "classes" if plan.schema.task == "classification" else "numbers to predict"
