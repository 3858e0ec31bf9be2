"""The batch-size study: which trials there are and how they depend on each other.

`batch_size_findings` says what follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distbp.config import Recipe
from distbp.errors import ConfigError
from distbp.lab.curves import choose_batch_sizes, choose_goals
from distbp.lab.lab import Chain, Lab, Measurement, single
from distbp.lab.search import Candidate, propose
from distbp.lab.timing import EpochCount, LoopTime, StepTime, count_epoch, time_loop, time_step
from distbp.lab.trial import Trial, TrialResult, plan_for, run_trial, with_batch
from distbp.lab.walk import Walk, WalkResult, choose_steps, take_walk
from distbp.machine.cores import count_cores
from distbp.nn.numerics import describe_kernels, list_kernels
from distbp.study.batch_size.findings import (
    BatchSizeFindings,
    GoalFinding,
    Search,
    find_for_goal,
)
from distbp.study.batch_size.scaling_rules import study_scaling_rules
from distbp.study.identity import identify_training

SEARCH = "search"
NUM_READINGS = 12
NUM_DRAWS = 24
MIN_TRIALS = 4
MIN_PATIENCE = 50
CAP_FACTOR = 8.0
"""A trial that does not reach its goal may last this many times its share of the whole time; most are far shorter."""


@dataclass(frozen=True)
class BatchSizeSettings:
    """What the user may choose. minutes: after which no further trials begin, 4 at each size aside. None: derived."""

    minutes: float
    num_trials: int
    batch_sizes: tuple[int, ...] | None = None
    goals: tuple[float, ...] | None = None


def study_batch_size(recipe: Recipe, settings: BatchSizeSettings, lab: Lab) -> BatchSizeFindings:
    """Carry out the study and return what was found."""
    plan = plan_for(recipe)
    num_examples = len(plan.worker.train)
    sizes = settings.batch_sizes or choose_batch_sizes(num_examples)
    sizes = (*sizes, num_examples) if sizes[-1] < num_examples else sizes
    goals = settings.goals or _derive_goals(recipe, lab)
    loops, epoch, hundredth, times = _measure(recipe, num_examples, sizes, lab)
    searches = _search_all(recipe, times, goals, settings, lab)
    found = tuple(find_for_goal(goal, searches) for goal in goals)
    walk = _take_walk(recipe, searches, found[-1], num_examples, lab)
    return BatchSizeFindings(
        source=recipe.data.source,
        network=plan.describe().split(" on ")[0],
        num_parameters=plan.layout.num_parameters,
        num_examples=num_examples,
        num_validation=0 if plan.worker.validation is None else len(plan.worker.validation),
        measures_error=plan.worker.model.is_classification,
        num_trials=sum(len(search.trials) for search in searches),
        goals=found,
        searches=tuple(searches),
        loops=tuple(loops),
        epoch=epoch,
        hundredth=hundredth,
        full=times[-1],
        readings=walk.readings,
        walk_batch_size=_walk_size(found[-1], searches),
        rules=tuple(study_scaling_rules(recipe, lab)),
        cores=count_cores(),
        processor=describe_arithmetic(),
    )


def check_settings(recipe: Recipe, settings: BatchSizeSettings) -> None:
    """Raise ConfigError for settings that do not fit the data, before anything is measured."""
    plan = plan_for(recipe)
    if plan.worker.validation is None:
        raise ConfigError("a study needs validation data; set data.validation, for example 0.2")
    num_examples = len(plan.worker.train)
    largest = max(settings.batch_sizes or (1,))
    if largest > num_examples:
        raise ConfigError(
            f"--batch-sizes: {largest} is larger than the {num_examples} training examples in "
            f"'{recipe.data.source}'; use at most {num_examples}"
        )
    if plan.worker.model.is_classification and max(settings.goals or (0.5,)) >= 1:
        raise ConfigError(
            f"--goals: {max(settings.goals or ()):g} is no error; use fractions below 1, such as 0.1,0.05"
        )


def identify(recipe: Recipe, settings: BatchSizeSettings) -> dict[str, Any]:
    """Return what must be the same when a stopped study goes on; more trials or minutes may be asked for later."""
    return {
        "study": "batch-size",
        **identify_training(recipe, plan_for(recipe)),
        "batch_sizes": settings.batch_sizes,
        "goals": settings.goals,
    }


def search_sizes(recipe: Recipe, batch_sizes: Sequence[int], num_trials: int, minutes: float, lab: Lab) -> GoalFinding:
    """Return what a short search says about one goal, the middle one of those that are derived."""
    num_examples = len(plan_for(recipe).worker.train)
    sizes = [size for size in batch_sizes if size <= num_examples]
    goals = _derive_goals(recipe, lab)
    goal = goals[len(goals) // 2]
    settings = BatchSizeSettings(minutes, num_trials)
    times = lab.measure("timing steps", [_time_measurement(with_batch(recipe, size, 1e-3, 0.9)) for size in sizes])
    return find_for_goal(goal, _search_all(recipe, times, (goal,), settings, lab))


def _derive_goals(recipe: Recipe, lab: Lab) -> tuple[float, ...]:
    """Return goals between the error at the start and the best that the recipe as it is reaches."""
    plan = plan_for(recipe)
    pilot = Measurement("pilot", run_trial, Trial(recipe, plan.num_steps), TrialResult)
    curve = lab.run("pilot run", [single(pilot)], [1])[0].curve
    return choose_goals(curve[0].error, min(point.error for point in curve))


def _measure(
    recipe: Recipe, num_examples: int, sizes: Sequence[int], lab: Lab
) -> tuple[list[LoopTime], EpochCount, StepTime, list[StepTime]]:
    """Time everything that is timed, one after the other in this process."""
    hundredth = with_batch(recipe, -(-num_examples // 100), 0.1, 0.0)
    loops = [
        Measurement(f"loop/{size}", time_loop, with_batch(recipe, size, 0.1, 0.0), LoopTime)
        for size in (10, 100)
        if size <= num_examples
    ]
    steps = [_time_measurement(with_batch(recipe, size, 1e-3, 0.9)) for size in sizes]
    epoch = Measurement("epoch", count_epoch, hundredth, EpochCount)
    return (
        lab.measure("timing a matrix against a loop", loops),
        lab.measure("counting an epoch", [epoch])[0],
        lab.measure("timing steps", [_time_measurement(with_batch(recipe, hundredth.global_batch_size, 1e-3, 0.9))])[0],
        lab.measure("timing steps", steps),
    )


def _time_measurement(recipe: Recipe) -> Measurement[StepTime]:
    return Measurement(f"step/{recipe.global_batch_size}", time_step, recipe, StepTime)


def _search_all(
    recipe: Recipe, times: Sequence[StepTime], goals: Sequence[float], settings: BatchSizeSettings, lab: Lab
) -> list[Search]:
    """Search at every batch size, all beside each other, as long as there is time."""
    budget_s = 60 * settings.minutes * lab.num_processes
    cap_s = CAP_FACTOR * budget_s / (len(times) * settings.num_trials)

    def may_begin(measurement: Measurement[TrialResult]) -> bool:
        return lab.knows(measurement) or lab.seconds_spent(f"{SEARCH}/") < budget_s

    chains = [_search(recipe, time, goals, settings.num_trials, cap_s, may_begin) for time in times]
    return lab.run("searching learning rates", chains, [settings.num_trials] * len(times))


def _search(
    recipe: Recipe,
    time: StepTime,
    goals: Sequence[float],
    num_trials: int,
    cap_s: float,
    may_begin: Callable[[Measurement[TrialResult]], bool],
) -> Chain[Search]:
    """Try rates and momenta at one batch size; a trial ends when it can no longer be the best that reached the goal."""
    search = Search(time.batch_size, time.step_s, ())
    for index in range(num_trials):
        candidate, trial = propose_trial(recipe, search, goals, max(1, int(cap_s / time.step_s)))
        measurement = Measurement(f"{SEARCH}/{time.batch_size}/{index}", run_trial, trial, TrialResult)
        if index >= MIN_TRIALS and not may_begin(measurement):
            break
        search = search.with_trial(candidate, (yield measurement))
    return search


def propose_trial(recipe: Recipe, search: Search, goals: Sequence[float], cap: int) -> tuple[Candidate, Trial]:
    """Return the next choice to try; it ends after `cap` steps, or when it can no longer be the first at the goal."""
    candidate = propose(recipe.seed, len(search.trials), search.batch_size, search.best(goals[-1]))
    found = search.fastest(goals[-1])
    max_steps, patience = (cap, max(MIN_PATIENCE, cap // 40)) if found is None else (found[0], None)
    tried = with_batch(recipe, search.batch_size, candidate.learning_rate, candidate.momentum)
    return candidate, Trial(tried, max_steps, tuple(goals), patience)


def _take_walk(
    recipe: Recipe, searches: Sequence[Search], goal: GoalFinding, num_examples: int, lab: Lab
) -> WalkResult:
    """Read gradients along the fastest mini-batch run to the hardest goal."""
    size = _walk_size(goal, searches)
    search = next(search for search in searches if search.batch_size == size)
    candidate = search.best(goal.goal)
    if candidate is None:
        return WalkResult(())
    found = search.fastest(goal.goal)
    steps = choose_steps(2 * (found[0] if found else max(2, search.most_steps())), NUM_READINGS)
    sizes = tuple(4**power for power in range(num_examples.bit_length()) if 4**power < num_examples / 2)
    walk = Walk(with_batch(recipe, size, candidate.learning_rate, candidate.momentum), steps, sizes, NUM_DRAWS)
    key = f"walk/{size}/{candidate.learning_rate}/{candidate.momentum}/{steps[-1]}"
    return lab.run("walking along the gradient", [single(Measurement(key, take_walk, walk, WalkResult))], [1])[0]


def _walk_size(goal: GoalFinding, searches: Sequence[Search]) -> int:
    return goal.best.batch_size if goal.best else searches[len(searches) // 2].batch_size


def describe_arithmetic() -> str:
    """Return which NumPy and BLAS compute here."""
    return describe_kernels(list_kernels())
