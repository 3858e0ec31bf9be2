"""One training trial, driven by the product's own Worker and ParameterServer in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from distbp.backends.local import LocalBackend
from distbp.config import Config, Data, Recipe
from distbp.config.microbatches import TRIAL_EXAMPLES, choose_microbatch_size
from distbp.data import PreparedData, prepare_in_memory
from distbp.errors import ConfigError
from distbp.lab.curves import CurvePoint, next_evaluation
from distbp.protocol.messages import Evaluation, TrainState
from distbp.training.plan import Plan, make_plan

STUCK_ERROR = 0.9


@dataclass(frozen=True)
class Trial:
    """What to train: `recipe`, until an error below the lowest of `goals` or for `max_steps`. No goals: to the end.

    patience: steps after which it is given up if it has not learned anything; None: never.
    seed: of initial weights and order, where it is not the recipe's, which also divides the data.
    """

    recipe: Recipe
    max_steps: int
    goals: tuple[float, ...] = ()
    patience: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """How it went.

    ended: "goal" reached, "cut" off after max_steps, "stuck" near the error of the start, or
    "diverged" (the loss is not finite).
    """

    curve: tuple[CurvePoint, ...]
    ended: Literal["goal", "cut", "stuck", "diverged"]
    steps: int


def load(data: Data, seed: int) -> PreparedData:
    """Return the prepared data in memory; a process reads them once for all of its trials."""
    return load_json(data.model_dump_json(), seed)


@lru_cache(maxsize=1)
def load_json(data: str, seed: int) -> PreparedData:
    """Return the same for the settings as JSON, which tell two sources apart."""
    return prepare_in_memory(Data.model_validate_json(data), seed)


def with_batch(recipe: Recipe, batch_size: int, learning_rate: float, momentum: float) -> Recipe:
    """Return `recipe` with another batch, rate and momentum, at a constant rate, in efficient microbatches."""
    optimizer = recipe.optimizer.model_copy(
        update={
            "learning_rate": learning_rate,
            "momentum": momentum,
            "nesterov": recipe.optimizer.nesterov and momentum > 0,
        }
    )
    return recipe.model_copy(
        update={
            "optimizer": optimizer,
            "schedule": type(recipe.schedule)(kind="constant"),
            "global_batch_size": batch_size,
            "microbatch_size": choose_microbatch_size(batch_size, smallest=TRIAL_EXAMPLES),
        }
    )


def plan_for(recipe: Recipe) -> Plan:
    """Return the plan of `recipe` on its own data. Raises ConfigError for one in rounds."""
    if recipe.rounds.steps is not None:
        raise ConfigError(
            "this measures training in which every step is committed; leave recipe.rounds out (rounds are compared by "
            "distbp study links)"
        )
    return make_plan(Config(recipe=recipe), load(recipe.data, recipe.seed))


def reseed(plan: Plan, init_seed: int, order_seed: int) -> Plan:
    """Return `plan` on the same data with other initial weights, and another order (and dropout) of the examples."""
    recipe = plan.recipe.model_copy(update={"seed": init_seed})
    return replace(plan, recipe=recipe, worker=replace(plan.worker, seed=order_seed))


def error_of(evaluation: Evaluation) -> float:
    """Return the fraction classified wrongly, or the loss for regression."""
    return evaluation.loss if evaluation.accuracy is None else 1 - evaluation.accuracy


@contextmanager
def start_one_worker(plan: Plan, state: TrainState | None = None) -> Iterator[LocalBackend]:
    """Yield a backend with one worker, standing at `state` or at the plan's own beginning."""
    backend = LocalBackend(1)
    try:
        backend.start(plan.worker, plan.server, state or plan.initial_state())
        yield backend
    finally:
        backend.close()


def run_trial(trial: Trial) -> TrialResult:
    """Train and return the validation curve; the same trial gives the same curve wherever it runs."""
    plan = plan_for(trial.recipe)
    if trial.seed is not None:
        plan = reseed(plan, trial.seed, trial.seed)
    goal = min(trial.goals, default=-1.0)
    with start_one_worker(plan) as backend:
        curve = [point_at(0, backend.evaluate())]
        due = next_evaluation(0)
        for report in backend.run(map(plan.order, range(trial.max_steps))):
            if not report.committed:
                return TrialResult(tuple(curve), "diverged", report.step)
            if report.step < due and report.step < trial.max_steps:
                continue
            due = next_evaluation(report.step)
            curve.append(point_at(report.step, backend.evaluate()))
            if curve[-1].error < goal:
                return TrialResult(tuple(curve), "goal", report.step)
            if trial.patience is not None and report.step >= trial.patience and is_stuck(curve):
                return TrialResult(tuple(curve), "stuck", report.step)
    return TrialResult(tuple(curve), "cut", trial.max_steps)


def is_stuck(curve: Sequence[CurvePoint]) -> bool:
    """Return whether no error on the curve was below 90 percent of that at the start."""
    return min(point.error for point in curve) > STUCK_ERROR * curve[0].error


def point_at(step: int, evaluation: Evaluation) -> CurvePoint:
    """Return the point of the curve that an evaluation makes."""
    return CurvePoint(step, evaluation.loss, error_of(evaluation))
