"""A training run by the recipe as it is, with the gradient's noise scale read on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distbp.backends.local import LocalBackend
from distbp.config import Recipe
from distbp.lab.curves import CurvePoint, choose_goals, first_below, next_evaluation
from distbp.lab.gradients import GradientMeter
from distbp.lab.noise import Noise, exact_noise
from distbp.lab.trial import plan_for, point_at, start_one_worker
from distbp.training.plan import Plan

READING_FACTOR = 1.8
MAX_SAMPLED, MAX_SAMPLED_SLOWLY = 4096, 128


@dataclass(frozen=True)
class PilotRun:
    """A training run by the recipe as it is, and the noise scale on the way.

    goal: a validation error it came below, after `goal_steps` steps and about `goal_s` seconds; None without
    validation data, and then `goal_steps` are all of the recipe's. noise_scales: (step, scale), ascending.
    """

    goal: float | None
    goal_steps: int
    goal_s: float
    noise_scales: tuple[tuple[int, float], ...]
    steps_trained: int

    @property
    def noise_scale(self) -> float:
        """The geometric mean over the later half of the way to the goal, on a logarithmic scale of steps."""
        on_the_way = [scale for step, scale in self.noise_scales if step <= self.goal_steps] or [1.0]
        return float(np.exp(np.mean(np.log(on_the_way[len(on_the_way) // 2 :]))))


def run_pilot(recipe: Recipe, seconds: float) -> PilotRun:
    """Train by the recipe, to its end or for about `seconds`, and read the noise scale at ever rarer steps."""
    plan = plan_for(recipe)
    meter = GradientMeter(plan.worker)
    sample = _sample(meter, recipe.seed)
    began = time.perf_counter()
    scales: list[tuple[int, float]] = []
    curve: list[CurvePoint] = []
    reading, evaluation = 0, 0
    with start_one_worker(plan) as backend:
        for report_step in _steps(backend, plan, began + seconds):
            if report_step >= evaluation and plan.worker.validation is not None:
                curve.append(point_at(report_step, backend.evaluate()))
                evaluation = next_evaluation(report_step)
            if report_step >= reading:
                noise = sampled_noise(meter, backend.snapshot().state.parameters, sample)
                scales.append((report_step, noise.scale))
                reading = math.ceil((report_step + 1) * READING_FACTOR)
    good = tuple((step, scale) for step, scale in scales if math.isfinite(scale) and scale > 0)
    goal, goal_steps = _find_goal(curve, plan.num_steps)
    goal_s = (time.perf_counter() - began) * goal_steps / max(1, report_step)
    return PilotRun(goal, goal_steps, goal_s, good or ((0, float(recipe.global_batch_size)),), report_step)


def sampled_noise(meter: GradientMeter, parameters: NDArray, sample: NDArray[np.int64]) -> Noise:
    """Return the noise among all examples from some of them: |G|^2 without the sample's own noise in its mean."""
    gradient = meter.mean_gradient(parameters, sample)
    found = exact_noise(meter.squared_norms(parameters, sample), float(gradient @ gradient))
    missing = 1 - len(sample) / meter.num_examples
    return replace(found, squared_norm=found.squared_norm - missing * found.trace / len(sample))


def _steps(backend: LocalBackend, plan: Plan, until: float) -> Iterator[int]:
    """Yield the steps done, from 0 on, until the plan's end, the time is over, or training diverges."""
    yield 0
    for report in backend.run(map(plan.order, range(plan.num_steps))):
        if not report.committed:
            return
        yield report.step
        if time.perf_counter() > until:
            return


def _find_goal(curve: Sequence[CurvePoint], num_steps: int) -> tuple[float | None, int]:
    """Return an error on the way, the middle one of those a study would choose, and when it was reached."""
    if len(curve) < 2:
        return None, num_steps
    goals = choose_goals(curve[0].error, min(point.error for point in curve))
    goal = goals[len(goals) // 2]
    reached = first_below(curve, goal)
    return goal, num_steps if reached is None else reached


def _sample(meter: GradientMeter, seed: int) -> NDArray[np.int64]:
    most = MAX_SAMPLED if meter.is_quick else MAX_SAMPLED_SLOWLY
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(meter.num_examples, min(most, meter.num_examples), replace=False))
