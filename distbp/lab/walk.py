"""Gradients, measured at some steps along one training run."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.config import Recipe
from distbp.lab.gradients import GradientMeter, GradientReading, read_gradients
from distbp.lab.trial import error_of, plan_for, start_one_worker


@dataclass(frozen=True)
class Walk:
    """A training run of `recipe`, and the steps (ascending) at which to read gradients. num_draws: batches a size."""

    recipe: Recipe
    steps: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    num_draws: int


@dataclass(frozen=True)
class WalkResult:
    """The readings in order; fewer than asked for if training diverged."""

    readings: tuple[GradientReading, ...]


def take_walk(walk: Walk) -> WalkResult:
    """Train and read the gradients at the walk's steps, without dropout."""
    plan = plan_for(walk.recipe)
    without_dropout = walk.recipe.model_copy(update={"model": walk.recipe.model.model_copy(update={"dropout": 0.0})})
    meter = GradientMeter(plan_for(without_dropout).worker)
    readings: list[GradientReading] = []
    with start_one_worker(plan) as backend:
        reports = backend.run(map(plan.order, range(walk.steps[-1])))
        done = 0
        for step in walk.steps:
            while done < step:
                report = next(reports)
                if not report.committed:
                    return WalkResult(tuple(readings))
                done = report.step
            parameters, error = backend.snapshot().state.parameters, error_of(backend.evaluate())
            readings.append(
                read_gradients(meter, parameters, step, error, walk.batch_sizes, walk.num_draws, walk.recipe.seed)
            )
    return WalkResult(tuple(readings))


def choose_steps(last: int, count: int) -> tuple[int, ...]:
    """Return 0 and up to `count` steps evenly spaced in log(step), ending with `last`."""
    spaced = (round(last ** (i / (count - 1))) for i in range(count))
    return (0, *sorted(set(spaced)))
