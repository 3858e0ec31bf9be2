"""Rounds of local steps as a further option: weighed only when asked for, because they change the numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from distbp.advise.evidence import Evidence
from distbp.config import Recipe
from distbp.lab.cost_model import Measured
from distbp.lab.curves import first_below
from distbp.lab.trial import TrialResult
from distbp.pages.words import duration, times
from distbp.study.links.cost import Way
from distbp.study.links.findings import Choice
from distbp.study.links.study import OUTERS, recipe_for
from distbp.study.links.trial import LinksTrial, plan_of, run_links_trial

LENGTHS = (20, 5)
WORTH_IT = 1.2
"""How many times faster rounds must be before other numbers are worth thinking of."""


@dataclass(frozen=True)
class WeighedRounds:
    """The best rounds that were tried. steps, replicas, outer_*: of recipe.rounds. seconds: to the pilot's goal."""

    steps: int
    replicas: int
    outer_rate: float
    outer_momentum: float
    batch_size: int
    num_steps: int
    seconds: float


def weigh_rounds(recipe: Recipe, found: Evidence, budget_s: float) -> WeighedRounds | None:
    """Return the fastest rounds on Ray, with as many replicas as workers; None where none is seen to reach the goal.

    Steps to the goal are of trials, for about `budget_s`; a step's seconds are those of the slowest worker's computing
    and its share of all the rest of a step, as both were measured.
    """
    measured, goal = _widest(recipe, found), found.pilot.goal
    if measured is None or goal is None:
        return None
    began, best = time.perf_counter(), None
    for way, choice in _ways(recipe, measured):
        if time.perf_counter() - began > budget_s:
            break
        trial = LinksTrial(recipe_for(recipe, way, choice), 2 * found.pilot.goal_steps, found.pilot.goal_steps)
        weighed = _weigh(way, choice, run_links_trial(trial), goal, measured)
        if weighed is not None and (best is None or weighed.seconds < best.seconds):
            best = weighed
    return best


def describe_rounds(weighed: WeighedRounds | None, advised_s: float) -> str:
    """Return what to say of rounds beside an advice that takes `advised_s`."""
    if weighed is None:
        return (
            "Rounds of local steps (--allow-rounds): none that was tried is seen to reach the goal with Ray's workers."
        )
    speedup = advised_s / weighed.seconds
    what = (
        f"rounds of {weighed.steps} steps by {weighed.replicas} replicas (outer rate {weighed.outer_rate:g}, momentum "
        f"{weighed.outer_momentum:g}) with batch {weighed.batch_size:,}"
    )
    if speedup < WORTH_IT:
        return f"Rounds of local steps do not pay here: {what} are expected to take {duration(weighed.seconds)}."
    return (
        f"Rounds of local steps would be {times(speedup)} times faster than this advice: {what}, expected "
        f"{duration(weighed.seconds)}. They CHANGE THE NUMBERS, so they are no part of the advice; to use them, set "
        f"recipe.rounds, and see distbp study links."
    )


def _widest(recipe: Recipe, found: Evidence) -> Measured | None:
    """Return the measured step of most workers and servers on Ray, at the batch that is nearest the recipe's."""
    on_ray = [one for backend, one in found.measured if backend == "ray" and one.setting.workers > 1]
    size = recipe.global_batch_size
    return max(
        on_ray,
        key=lambda one: (
            one.setting.workers,
            one.setting.servers,
            -max(one.setting.batch_size / size, size / one.setting.batch_size),
        ),
        default=None,
    )


def _ways(recipe: Recipe, measured: Measured) -> Iterator[tuple[Way, Choice]]:
    workers, batch_size = measured.setting.workers, measured.setting.batch_size
    per_epoch = -(-len(plan_of(recipe).worker.train) // batch_size)
    for steps in (length for length in LENGTHS if length <= per_epoch):
        for outer in OUTERS:
            choice = Choice(recipe.optimizer.learning_rate, outer.learning_rate, outer.momentum)
            yield Way(batch_size, workers, steps, workers), choice


def _weigh(way: Way, choice: Choice, result: TrialResult, goal: float, measured: Measured) -> WeighedRounds | None:
    num_steps = first_below(result.curve, goal)
    if num_steps is None or way.steps is None or choice.outer_rate is None or choice.outer_momentum is None:
        return None
    parts = measured.parts
    step_s = parts.compute_s + parts.waiting_s + (parts.transfer_s + parts.commit_s) / way.steps
    seconds = num_steps * step_s
    return WeighedRounds(
        way.steps, way.replicas, choice.outer_rate, choice.outer_momentum, way.batch_size, num_steps, seconds
    )
