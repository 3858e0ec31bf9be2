"""Pure functions of the plan for rounds: which steps make one, and which part of a batch each replica has.

A round never crosses the end of an epoch: the last one of an epoch may be shorter. A replica's part of a batch is a
run of its microbatches, as a worker's shard is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from distbp.config import Recipe
from distbp.protocol.messages import Shard, StepOrder
from distbp.protocol.planning import lane_order, shards, step_order, steps_per_epoch

MakeOrder = Callable[[Recipe, int, int], StepOrder]


def next_order(recipe: Recipe, step: int, num_examples: int, has_lanes: bool = False) -> StepOrder:
    """Return the order that goes on from `step`: for one step, or for the whole round that begins there.

    has_lanes: whether the examples are read in blocks, and so in lanes.
    """
    make: MakeOrder = lane_order if has_lanes else step_order
    if recipe.rounds.steps is None:
        return make(recipe, step, num_examples)
    end = end_of_round(recipe, step, steps_per_epoch(recipe, num_examples))
    steps = tuple(make(recipe, inner, num_examples) for inner in range(step, end))
    return StepOrder(
        step=step,
        epoch=steps[0].epoch,
        start=steps[0].start,
        stop=steps[-1].stop,
        learning_rate=recipe.rounds.outer.learning_rate,
        num_microbatches=recipe.rounds.replicas,
        steps=steps,
    )


def end_of_round(recipe: Recipe, step: int, num_steps: int) -> int:
    """Return how many steps are done when the round under way after `step` steps ends. num_steps: of an epoch."""
    length = recipe.rounds.steps or 1
    epoch, inner = divmod(step, num_steps)
    return epoch * num_steps + min((inner // length + 1) * length, num_steps)


def start_of_round(recipe: Recipe, step: int, num_steps: int) -> int:
    """Return how many steps were done when the round began of which `step`, counted from 0, is one."""
    length = recipe.rounds.steps or 1
    epoch, inner = divmod(step, num_steps)
    return epoch * num_steps + inner // length * length


def rounds_per_epoch(recipe: Recipe, num_steps: int) -> int:
    """Return how many commits an epoch of `num_steps` has."""
    return -(-num_steps // (recipe.rounds.steps or 1))


def replica_order(order: StepOrder, replica: int, num_replicas: int, microbatch_size: int) -> StepOrder | None:
    """Return one replica's part of a step; None where the batch has no microbatch for it."""
    part = shards(order.num_microbatches, num_replicas)[replica]
    if not part:
        return None
    return replace(
        order,
        start=order.start + part.start * microbatch_size,
        stop=min(order.start + part.stop * microbatch_size, order.stop),
        num_microbatches=len(part),
        first_microbatch=part.start,
    )


def replica_lanes(order: StepOrder, replicas: Shard) -> range:
    """Return the microbatches of a step's batch that the replicas of a shard take together."""
    parts = shards(order.num_microbatches, replicas.num_microbatches)[replicas.start : replicas.stop]
    return range(parts[0].start, parts[-1].stop)
