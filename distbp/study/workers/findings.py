"""What follows from measured step times. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distbp.lab.cost_model import CostModel, Measured, fit_cost_model, prediction_errors
from distbp.lab.hyperbola import HyperbolaFit
from distbp.study.workers.extrapolation import (
    Prediction,
    StepPrediction,
    Straggling,
    predict_large_steps,
    predict_straggling,
    predict_targets,
)


@dataclass(frozen=True)
class Checked:
    """A measurement that the model was not fitted on, and its prediction. error: predicted / measured - 1."""

    measured: Measured
    predicted_s: float
    error: float


@dataclass(frozen=True)
class StepsToGoal:
    """Steps against batch size to `goal`. origin: where that comes from."""

    goal: float
    fit: HyperbolaFit
    origin: str


@dataclass(frozen=True)
class WorkersFindings:
    """Everything the workers study found; what its report is written from.

    local, ray: the recipe's own model in one process and on Ray. fitted, checked: on Ray, all models.
    """

    source: str
    network: str
    num_parameters: int
    num_examples: int
    microbatch_size: int
    strong_batch_size: int
    weak_batch_size: int
    cores: int
    processor: str
    local: tuple[Measured, ...]
    ray: tuple[Measured, ...]
    fitted: tuple[Measured, ...]
    model: CostModel
    checked: tuple[Checked, ...]
    learning: StepsToGoal | None
    targets: tuple[Prediction, ...]
    large: tuple[StepPrediction, ...]
    straggling: tuple[Straggling, ...]

    @property
    def median_error(self) -> float:
        """Median size of the model's errors where it was not fitted."""
        return statistics.median(abs(checked.error) for checked in self.checked)

    @property
    def largest_error(self) -> float:
        """The largest of them."""
        return max(abs(checked.error) for checked in self.checked)

    def strong(self, measured: Sequence[Measured]) -> list[Measured]:
        """Return the measurements of one batch shared by more and more workers."""
        return _by_workers(m for m in measured if m.setting.batch_size == self.strong_batch_size)

    def weak(self, measured: Sequence[Measured]) -> list[Measured]:
        """Return the measurements in which every worker has the same share, and the batch grows."""
        return _by_workers(m for m in measured if m.setting.batch_size == self.weak_batch_size * m.setting.workers)


def _by_workers(measured: Iterable[Measured]) -> list[Measured]:
    one_server = {m.setting.workers: m for m in measured if m.setting.servers == 1}
    return [one_server[count] for count in sorted(one_server)]


def fit_and_check(
    measured: Sequence[Measured], cores: int
) -> tuple[tuple[Measured, ...], CostModel, tuple[Checked, ...]]:
    """Fit on the smallest and largest model with few workers and all but the middle batch sizes; check on the rest."""
    sizes = sorted({m.setting.num_parameters for m in measured})
    batches = sorted({m.setting.batch_size for m in measured})
    outer_sizes, outer_batches = {sizes[0], sizes[-1]}, {batches[0], batches[-1]}
    few = max(2, cores)
    fitted = tuple(
        m
        for m in measured
        if m.setting.num_parameters in outer_sizes
        and m.setting.batch_size in outer_batches
        and m.setting.workers <= few
    )
    model = fit_cost_model(fitted)
    others = [m for m in measured if m not in fitted]
    errors = prediction_errors(model, others)
    checked = tuple(Checked(m, model.predict(m.setting).step_s, error) for m, error in zip(others, errors, strict=True))
    return fitted, model, checked


def predict(
    model: CostModel, learning: StepsToGoal | None, num_parameters: int, microbatch_size: int, num_examples: int
) -> tuple[tuple[Prediction, ...], tuple[StepPrediction, ...], tuple[Straggling, ...]]:
    """Return what the model says about clusters; times to a goal only where learning is known."""
    targets = (
        ()
        if learning is None
        else tuple(predict_targets(model, learning.fit.curve, num_parameters, microbatch_size, num_examples))
    )
    return targets, tuple(predict_large_steps(model, microbatch_size)), tuple(predict_straggling())
