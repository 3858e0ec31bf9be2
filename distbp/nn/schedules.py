"""The learning rate of every step, a pure function of the recipe and the step."""

from __future__ import annotations

import math

from distbp.config import Recipe


def batch_scale(recipe: Recipe) -> float:
    """Return what `lr_scaling` multiplies the learning rate with: k or sqrt(k), k = batch / reference batch.

    Linear: Goyal et al. 2017. Square root: Krizhevsky 2014.
    """
    schedule = recipe.schedule
    if schedule.lr_scaling == "none" or schedule.reference_batch_size is None:
        return 1.0
    k = recipe.global_batch_size / schedule.reference_batch_size
    return k if schedule.lr_scaling == "linear" else math.sqrt(k)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of `step`, counted from 0.

    Warmup rises linearly and reaches the full rate with its last step. Decay runs over the steps after it;
    `step` decays by decay_factor every decay_epochs, `cosine` falls to final_fraction at the last step.
    """
    schedule = recipe.schedule
    peak = recipe.optimizer.learning_rate * batch_scale(recipe)
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.kind == "step":
        return peak * float(schedule.decay_factor ** (step // (steps_per_epoch * schedule.decay_epochs)))
    if schedule.kind == "cosine":
        return peak * _cosine(
            step - schedule.warmup_steps,
            recipe.epochs * steps_per_epoch - schedule.warmup_steps,
            schedule.final_fraction,
        )
    return peak


def _cosine(step: int, num_steps: int, final_fraction: float) -> float:
    """Return final + (1 - final) (1 + cos(pi t)) / 2 with t from 0 at the first to 1 at the last step."""
    t = step / max(1, num_steps - 1)
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * t)) / 2
