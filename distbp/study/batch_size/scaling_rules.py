"""Rules for the learning rate of a batch 32 times as large, compared (Goyal et al. 2017, table 2)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from distbp.config import Recipe, Schedule
from distbp.lab.lab import Lab, Measurement, single
from distbp.lab.trial import Trial, TrialResult, plan_for, run_trial, with_batch
from distbp.nn.schedules import batch_scale
from distbp.protocol.planning import steps_per_epoch

FACTOR = 32
MOMENTUM = 0.9
RATES = (0.0015, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2)
WARMUP_FRACTION = 0.1
SEEDS = (1, 2, 3)
NAMES = ("small batch", "linear + warmup", "linear", "square root", "unscaled")
PUBLISHED = (23.60, 23.74, 24.84, 26.22, 41.67)
"""Goyal et al. 2017, table 2: ImageNet validation error in percent, 256 against 8k; "small batch" is their baseline."""


@dataclass(frozen=True)
class RuleFinding:
    """One rule. errors: at the end of training, one for each seed; mean: of them."""

    name: str
    batch_size: int
    learning_rate: float
    errors: tuple[float, ...]
    published: float

    @property
    def mean(self) -> float:
        """Mean validation error."""
        return statistics.fmean(self.errors)


def choose_base(num_examples: int) -> int:
    """Return the small batch: a power of two, at most 64; an epoch of batches 32 times as large has 8 steps or more."""
    most = max(1, min(64, num_examples // (8 * FACTOR)))
    return 1 << (most.bit_length() - 1)


def study_scaling_rules(recipe: Recipe, lab: Lab) -> list[RuleFinding]:
    """Tune the rate at the small batch, then train with it and with 32 times the batch under each rule."""
    num_examples = len(plan_for(recipe).worker.train)
    base = choose_base(num_examples)
    trials = [Trial(with_batch(recipe, base, rate, MOMENTUM), _num_steps(recipe, base, num_examples)) for rate in RATES]
    measurements = [
        Measurement(f"rate/{rate}", run_trial, trial, TrialResult) for rate, trial in zip(RATES, trials, strict=True)
    ]
    tuning = lab.run("tuning the small batch", list(map(single, measurements)), [1] * len(measurements))
    tuned = min(zip(RATES, tuning, strict=True), key=lambda pair: _final_error(pair[1]))[0]
    recipes = _recipes(recipe, base, tuned, num_examples)
    rules = [
        Measurement(
            f"rule/{name}/{rule.optimizer.learning_rate}/{seed}",
            run_trial,
            Trial(rule, _num_steps(recipe, rule.global_batch_size, num_examples), seed=seed),
            TrialResult,
        )
        for name, rule in recipes.items()
        for seed in SEEDS
    ]
    found = lab.run("comparing scaling rules", list(map(single, rules)), [1] * len(rules))
    errors = [_final_error(result) for result in found]
    groups = [tuple(errors[i : i + len(SEEDS)]) for i in range(0, len(errors), len(SEEDS))]
    return [
        RuleFinding(name, rule.global_batch_size, _rate(rule), group, published)
        for (name, rule), group, published in zip(recipes.items(), groups, PUBLISHED, strict=True)
    ]


def _recipes(recipe: Recipe, base: int, rate: float, num_examples: int) -> dict[str, Recipe]:
    small = with_batch(recipe, base, rate, MOMENTUM)
    large = with_batch(recipe, FACTOR * base, rate, MOMENTUM)
    warmup = round(WARMUP_FRACTION * _num_steps(recipe, FACTOR * base, num_examples))
    scaled = Schedule(kind="constant", lr_scaling="linear", reference_batch_size=base)
    schedules = (
        scaled.model_copy(update={"warmup_steps": warmup}),
        scaled,
        scaled.model_copy(update={"lr_scaling": "sqrt"}),
        Schedule(kind="constant"),
    )
    larges = [large.model_copy(update={"schedule": schedule}) for schedule in schedules]
    return dict(zip(NAMES, [small, *larges], strict=True))


def _rate(recipe: Recipe) -> float:
    return recipe.optimizer.learning_rate * batch_scale(recipe)


def _num_steps(recipe: Recipe, batch_size: int, num_examples: int) -> int:
    return recipe.epochs * steps_per_epoch(recipe.model_copy(update={"global_batch_size": batch_size}), num_examples)


def _final_error(result: TrialResult) -> float:
    """Return the error at the end; a diverged run ends where it began."""
    return result.curve[0 if result.ended == "diverged" else -1].error
