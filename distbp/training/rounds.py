"""A recipe's rounds: whether they fit the data, what the roles need for them, and how to tell of them."""

from __future__ import annotations

from typing import Any

from distbp.config import Optimizer, Recipe
from distbp.errors import ConfigError
from distbp.nn.layout import Layout
from distbp.nn.optimizers import MOMENTS
from distbp.protocol.examples import Examples
from distbp.protocol.messages import RoundsTask, ServerTask
from distbp.protocol.planning import num_microbatches
from distbp.protocol.rounds import rounds_per_epoch
from distbp.protocol.supply import Supply

OUTER_MOMENTS = ("outer_velocity",)


def check_rounds(recipe: Recipe, steps_per_epoch: int, train: Examples | Supply) -> None:
    """Raise ConfigError where the batches, the epoch or the data do not fit the recipe's rounds."""
    rounds, count = recipe.rounds, num_microbatches(recipe.global_batch_size, recipe.microbatch_size)
    if rounds.steps is None:
        return
    has_weights = isinstance(train, Examples) and train.weights is not None
    if has_weights or recipe.data.weight is not None or recipe.data.class_weights is not None:
        raise ConfigError(
            "recipe.rounds needs examples that all count the same; leave out rounds, or data.weight and "
            "data.class_weights"
        )
    if rounds.replicas > count:
        raise ConfigError(
            f"rounds.replicas={rounds.replicas} is more than the {count} microbatches of a batch (global_batch_size="
            f"{recipe.global_batch_size}, microbatch_size={recipe.microbatch_size}), so some would learn nothing; use "
            f"at most {count}, a smaller microbatch_size or a larger batch"
        )
    if rounds.steps > steps_per_epoch:
        raise ConfigError(
            f"rounds.steps={rounds.steps} is more than the {steps_per_epoch} steps of an epoch, after which there is a "
            f"commit in any case; use at most {steps_per_epoch}"
        )


def moment_names(recipe: Recipe) -> tuple[str, ...]:
    """Return what the servers keep beside the parameters, as checkpoints name it."""
    return MOMENTS[recipe.optimizer.kind] if recipe.rounds.steps is None else OUTER_MOMENTS


def step_server_task(recipe: Recipe, layout: Layout) -> ServerTask:
    """Return what a server needs to take the recipe's steps, one gradient after the other."""
    optimizer = recipe.optimizer
    decays = layout.decays(optimizer.weight_decay, optimizer.decay_groups)
    return ServerTask(optimizer, decays, layout.buffer_ranges())


def outer_server_task(recipe: Recipe, layout: Layout) -> ServerTask:
    """Return what a server needs to commit the recipe's rounds."""
    return ServerTask(Optimizer(momentum=0.0), (), layout.buffer_ranges(), recipe.rounds.outer)


def rounds_task(recipe: Recipe, layout: Layout) -> RoundsTask | None:
    """Return what a worker needs for the recipe's rounds; None where it has none."""
    steps = recipe.rounds.steps
    return None if steps is None else RoundsTask(step_server_task(recipe, layout), steps)


def describe_rounds(recipe: Recipe, steps_per_epoch: int) -> str:
    """Return in a few words what is done in rounds; with a comma before; "" where every step is committed."""
    rounds, outer = recipe.rounds, recipe.rounds.outer
    if rounds.steps is None:
        return ""
    count = rounds_per_epoch(recipe, steps_per_epoch)
    plural = "s" * (rounds.steps > 1)
    momentum = f", momentum {outer.momentum:g}{' (Nesterov)' * outer.nesterov}" if outer.momentum else ""
    return (
        f", in rounds: {rounds.replicas} replica{'s' * (rounds.replicas > 1)} train apart for {rounds.steps} "
        f"step{plural}, then their mean is committed (outer rate {outer.learning_rate:g}{momentum}; {count} "
        f"round{'s' * (count > 1)} an epoch)"
    )


def describe_idle(recipe: Recipe, num_workers: int) -> str:
    """Return how many workers have no replica to compute; "" where each has one, or there are no rounds."""
    num_idle = num_workers - recipe.rounds.replicas
    if recipe.rounds.steps is None or num_idle <= 0:
        return ""
    return f" ({num_idle} of them without a replica, so idle)"


def rounds_as_json(recipe: Recipe) -> dict[str, Any] | None:
    """Return the recipe's rounds as JSON values; None where every step is committed."""
    return None if recipe.rounds.steps is None else recipe.rounds.model_dump(mode="json")
