"""The order study: the same examples in other orders, other initial weights, one other bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distbp.config import Recipe
from distbp.config.microbatches import TRIAL_EXAMPLES, choose_microbatch_size
from distbp.errors import ConfigError, DivergedError
from distbp.lab.lab import Lab, Measurement, single
from distbp.lab.trial import plan_for
from distbp.lab.walk import choose_steps
from distbp.study.batch_size.study import describe_arithmetic
from distbp.study.identity import identify_training
from distbp.study.order.findings import KINDS, OrderFindings, compare
from distbp.study.order.trial import OrderResult, OrderTrial, run_order_trial
from distbp.study.order.windows import (
    WindowFinding,
    WindowResult,
    gather_windows,
    list_window_trials,
    run_window_trial,
)

NUM_KEPT = 9
NUM_FULL_RUNS = 3
NUM_FULL_STEPS = 100


@dataclass(frozen=True)
class OrderSettings:
    """What the user may choose. runs: of each kind, besides the reference."""

    runs: int


def identify(recipe: Recipe, settings: OrderSettings) -> dict[str, Any]:
    """Return what must be the same when a stopped study goes on; more runs may be asked for later."""
    del settings
    return {"study": "order", **identify_training(recipe, plan_for(recipe))}


def check_settings(recipe: Recipe, settings: OrderSettings) -> None:
    """Raise ConfigError for what cannot be compared, before anything is trained."""
    plan = plan_for(recipe)
    if plan.worker.validation is None or not plan.worker.model.is_classification:
        raise ConfigError("the order study compares predicted classes; it needs classes and data.validation")
    if settings.runs < 2:
        raise ConfigError(f"--runs {settings.runs}: a spread needs 2 runs of each kind at least")


def study_order(recipe: Recipe, settings: OrderSettings, lab: Lab) -> OrderFindings:
    """Carry out the study and return what was found."""
    plan = plan_for(recipe)
    num_examples = len(plan.worker.train)
    steps = choose_steps(plan.num_steps, NUM_KEPT)
    full_steps = choose_steps(min(NUM_FULL_STEPS, plan.num_steps), NUM_KEPT)
    microbatch_size = choose_microbatch_size(num_examples, smallest=TRIAL_EXAMPLES)
    full_recipe = recipe.model_copy(update={"global_batch_size": num_examples, "microbatch_size": microbatch_size})
    mini_trials = _trials(recipe, steps, settings.runs)
    full_trials = _trials(full_recipe, full_steps, NUM_FULL_RUNS)
    results = _run({**_named("mini", mini_trials), **_named("full", full_trials)}, lab)
    mini, full = (_by_kind(results, name) for name in ("mini", "full"))
    return OrderFindings(
        source=recipe.data.source,
        network=plan.describe().split(" on ")[0],
        num_parameters=plan.layout.num_parameters,
        num_examples=num_examples,
        num_validation=len(plan.worker.validation) if plan.worker.validation is not None else 0,
        batch_size=recipe.global_batch_size,
        epochs=recipe.epochs,
        steps=steps,
        full_steps=full_steps,
        mini=tuple(compare(kind, mini["reference"][0], mini[kind]) for kind in KINDS),
        full=tuple(compare(kind, full["reference"][0], full[kind]) for kind in KINDS),
        full_digests=tuple(result.digest for result in (*full["reference"], *full["order"])),
        processor=describe_arithmetic(),
        windows=_study_windows(recipe, lab),
    )


def _study_windows(recipe: Recipe, lab: Lab) -> tuple[WindowFinding, ...]:
    """Return how narrow the windows of sorted blocks may be; nothing for sequences, which are of no one class."""
    if plan_for(recipe).schema.target_shape:
        return ()
    trials = list_window_trials(recipe)
    measurements = [
        Measurement(f"windows/{trial.window_blocks}/{trial.seed}", run_window_trial, trial, WindowResult)
        for trial in trials
    ]
    return gather_windows(trials, lab.run("blocks", list(map(single, measurements)), [1] * len(measurements)))


def _trials(recipe: Recipe, steps: tuple[int, ...], runs: int) -> dict[str, list[OrderTrial]]:
    """Return the trials of each kind: the reference, and those that differ from it in one thing."""
    seed, numbers = recipe.seed, range(1, runs + 1)
    flipped = _choose_weights(recipe, runs)
    return {
        "reference": [OrderTrial(recipe, steps, seed, seed)],
        "order": [OrderTrial(recipe, steps, seed, seed + number) for number in numbers],
        "initialisation": [OrderTrial(recipe, steps, seed + number, seed) for number in numbers],
        "one flipped bit": [OrderTrial(recipe, steps, seed, seed, index) for index in flipped],
    }


def _choose_weights(recipe: Recipe, count: int) -> list[int]:
    """Return different initial parameters that are not 0, whose lowest bit is worth flipping."""
    parameters = plan_for(recipe).initial_state().parameters
    rng = np.random.default_rng(recipe.seed)
    found = rng.choice(np.flatnonzero(parameters), count, replace=False)
    return [int(index) for index in found]


def _named(batch: str, trials: dict[str, list[OrderTrial]]) -> dict[str, OrderTrial]:
    return {f"{batch}/{kind}/{i}": trial for kind, group in trials.items() for i, trial in enumerate(group)}


def _run(trials: dict[str, OrderTrial], lab: Lab) -> dict[str, OrderResult]:
    measurements = [Measurement(key, run_order_trial, trial, OrderResult) for key, trial in trials.items()]
    found = lab.run("training", list(map(single, measurements)), [1] * len(measurements))
    for measurement, result in zip(measurements, found, strict=True):
        if len(result.parameters) < len(measurement.argument.steps):
            rate = measurement.argument.recipe.optimizer.learning_rate
            raise DivergedError(f"the run '{measurement.key}' diverged; try a learning rate below {rate:g}")
    return dict(zip(trials, found, strict=True))


def _by_kind(results: dict[str, OrderResult], batch: str) -> dict[str, Sequence[OrderResult]]:
    return {
        kind: [result for key, result in results.items() if key.startswith(f"{batch}/{kind}/")]
        for kind in ("reference", *KINDS)
    }
