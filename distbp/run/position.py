"""Where a run stands: a value that reports and evaluations advance, kept in every checkpoint. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import pydantic

from distbp.config import EarlyStopping
from distbp.errors import CheckpointError
from distbp.protocol.messages import Evaluation, StepReport

_ESSENTIAL = {"step", "epoch_loss", "epoch_examples", "epochs_evaluated"}
"""Without these a run would go on with other numbers."""


@dataclass(frozen=True)
class Position:
    """The driver's bookkeeping after `step` steps.

    epoch_loss, epoch_examples: sums over the steps of the epoch under way, the second of the weights where there are
    some. train_loss: mean over the last whole epoch. best_*: of the epoch with the lowest validation loss, or with the
    lowest error, where something else is watched (`distbp.training.monitor`). Over all sessions of the run: examples,
    recoveries, preemptions (workers that left in time, because a notice was heard), and seconds spent on steps, on
    waiting for workers (starts and recoveries), on steps that a lost state made necessary again, on checkpoints while
    training waited for them, and on waiting for data that a step needed.
    """

    step: int = 0
    epoch_loss: float = 0.0
    epoch_examples: int | float = 0
    epochs_evaluated: int = 0
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    best_step: int | None = None
    best_loss: float | None = None
    best_accuracy: float | None = None
    best_error: float | None = None
    epochs_since_best: int = 0
    examples: int = 0
    recoveries: int = 0
    longest_recovery_s: float = 0.0
    preemptions: int = 0
    work_s: float = 0.0
    waiting_s: float = 0.0
    recomputing_s: float = 0.0
    checkpointing_s: float = 0.0
    data_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave, in any version: unknown fields are ignored, missing ones get their defaults.

        Raises CheckpointError for anything else.
        """
        try:
            position = pydantic.TypeAdapter(cls).validate_python(dict(values))
        except pydantic.ValidationError:
            position = None
        if position is None or not values.keys() >= _ESSENTIAL or position.step < 0 or position.epochs_evaluated < 0:
            raise CheckpointError("the checkpoint's position is not one that distbp wrote; it is damaged")
        return position

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken."""
        return self.work_s + self.waiting_s + self.recomputing_s + self.checkpointing_s + self.data_s

    @property
    def goodput(self) -> float:
        """Share of the time that went into steps which count."""
        return self.work_s / self.seconds if self.seconds > 0 else 1.0

    def changed(self, **changes: int | float) -> Self:
        """Return the position with other values in some of its fields: as `replace`, but 1 us instead of 5.

        It is needed twice a step. Names are not checked.
        """
        copy = object.__new__(type(self))
        vars(copy).update(vars(self), **changes)
        return copy

    def after_step(self, report: StepReport) -> Self:
        """Return the position one step on."""
        return self.changed(
            step=report.step,
            epoch_loss=self.epoch_loss + report.loss * report.divisor,
            epoch_examples=self.epoch_examples + report.divisor,
            examples=self.examples + report.num_examples,
        )

    def after_epoch(self, evaluation: Evaluation | None, min_delta: float, error: float | None = None) -> Self:
        """Return the position with the epoch closed; evaluation is None without validation data.

        error: what is to fall, where it is not the validation loss.
        """
        closed = replace(
            self,
            epochs_evaluated=self.epochs_evaluated + 1,
            train_loss=self.epoch_loss / (self.epoch_examples or 1.0),
            epoch_loss=0.0,
            epoch_examples=0,
        )
        if evaluation is None:
            return closed
        loss, accuracy = evaluation.loss, evaluation.accuracy
        closed = replace(closed, validation_loss=loss, validation_accuracy=accuracy)
        best, now = (self.best_loss, loss) if error is None else (self.best_error, error)
        if best is None or math.isnan(best) or now < best - min_delta:
            closed = replace(closed, best_step=self.step, best_loss=loss, best_accuracy=accuracy)
            return replace(closed, best_error=error, epochs_since_best=0)
        return replace(closed, epochs_since_best=self.epochs_since_best + 1)

    @property
    def is_best(self) -> bool:
        """Whether the epoch that ended with this step is the best so far."""
        return self.best_step == self.step

    def ran_out_of_patience(self, early_stopping: EarlyStopping) -> bool:
        """Return whether early stopping ends the run here."""
        return early_stopping.patience is not None and self.epochs_since_best >= early_stopping.patience
