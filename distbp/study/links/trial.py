"""One training in rounds, or step by step, of a fixed number of steps; its numbers depend on no host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from distbp.config import Config, Recipe
from distbp.lab.curves import next_evaluation
from distbp.lab.trial import TrialResult, is_stuck, load, point_at, start_one_worker
from distbp.protocol.messages import StepOrder
from distbp.protocol.rounds import end_of_round, next_order
from distbp.training.plan import Plan, make_plan


@dataclass(frozen=True)
class LinksTrial:
    """What to train, and for how many steps; patience: after how many it ends if it has learned nothing."""

    recipe: Recipe
    num_steps: int
    patience: int


def plan_of(recipe: Recipe) -> Plan:
    """Return the plan of a recipe, in rounds or not, on its own data."""
    return make_plan(Config(recipe=recipe), load(recipe.data, recipe.seed))


def run_links_trial(trial: LinksTrial) -> TrialResult:
    """Train and return the validation curve, measured at commits; the last point is at the end."""
    plan = plan_of(trial.recipe)
    with start_one_worker(plan) as backend:
        curve = [point_at(0, backend.evaluate())]
        due = next_evaluation(0)
        for report in backend.run(_orders(plan, trial.num_steps)):
            if not report.committed:
                return TrialResult(tuple(curve), "diverged", report.step)
            if report.step != end_of_round(trial.recipe, report.step - 1, plan.steps_per_epoch):
                continue
            if report.step < due and report.step < trial.num_steps:
                continue
            due = next_evaluation(report.step)
            curve.append(point_at(report.step, backend.evaluate()))
            if report.step >= trial.patience and is_stuck(curve):
                return TrialResult(tuple(curve), "stuck", report.step)
    return TrialResult(tuple(curve), "cut", curve[-1].step)


def _orders(plan: Plan, num_steps: int) -> Iterator[StepOrder]:
    step = 0
    while step < num_steps:
        order = next_order(plan.recipe, step, len(plan.worker.train))
        step = order.end
        yield order
