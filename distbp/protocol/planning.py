"""Pure functions of the plan: which examples a step takes, and which microbatches each worker takes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Literal

from distbp.config import Recipe
from distbp.machine.cores import count_cores
from distbp.nn.digests import BLOCK
from distbp.nn.schedules import learning_rate
from distbp.protocol.messages import Shard, StepOrder


def steps_per_epoch(recipe: Recipe, num_examples: int) -> int:
    """Return how many batches make an epoch; the last may be short."""
    return -(-num_examples // recipe.global_batch_size)


def step_order(recipe: Recipe, step: int, num_examples: int) -> StepOrder:
    """Return the order for `step`, counted from 0 over the whole run."""
    num_steps = steps_per_epoch(recipe, num_examples)
    epoch, batch = divmod(step, num_steps)
    start = batch * recipe.global_batch_size
    stop = min(start + recipe.global_batch_size, num_examples)
    count = num_microbatches(stop - start, recipe.microbatch_size)
    return StepOrder(step, epoch, start, stop, learning_rate(recipe, step, num_steps), count)


def lane_order(recipe: Recipe, step: int, num_examples: int) -> StepOrder:
    """Return the order for `step` of a run on data in lanes: every step has all microbatches, some of them short."""
    count = num_microbatches(recipe.global_batch_size, recipe.microbatch_size)
    return replace(step_order(recipe, step, num_examples), num_microbatches=count)


def smallest_microbatch(recipe: Recipe, num_examples: int) -> int:
    """Return the number of examples in the smallest microbatch of an epoch."""
    batches = {min(recipe.global_batch_size, num_examples), num_examples % recipe.global_batch_size} - {0}
    rests = {size % recipe.microbatch_size for size in batches} - {0}
    return min(rests | {recipe.microbatch_size, *batches})


def num_microbatches(num_examples: int, microbatch_size: int) -> int:
    """Return how many microbatches a batch of `num_examples` is cut into; the last may be short."""
    return -(-num_examples // microbatch_size)


@lru_cache(maxsize=64)
def shards(count: int, num_workers: int) -> tuple[Shard, ...]:
    """Return a shard for each worker: consecutive, all `count` microbatches together, sizes differing by at most 1.

    Workers beyond the number of microbatches get an empty shard.
    """
    bounds = [count * i // num_workers for i in range(num_workers + 1)]
    return tuple(Shard(bounds[i], bounds[i + 1], count) for i in range(num_workers))


@lru_cache(maxsize=64)
def paced_shards(count: int, paces: tuple[float, ...]) -> tuple[Shard, ...]:
    """Return a shard for each worker, such that the last worker finishes as early as whole microbatches allow.

    paces: seconds that each worker takes for one microbatch, above 0. Shards are consecutive and make up all `count`
    microbatches. A worker that would only delay the step gets an empty one. Equal arguments give equal shards, so all
    members of a group that get the same paces make the same plan.
    """
    sizes = [0] * len(paces)
    finishes = [(pace, -rank) for rank, pace in enumerate(paces)]  # of equals the last: the first are servers too
    heapq.heapify(finishes)
    for _ in range(count):
        finish, key = finishes[0]
        sizes[-key] += 1
        heapq.heapreplace(finishes, (finish + paces[-key], key))
    bounds = [0, *accumulate(sizes)]
    return tuple(Shard(start, stop, count) for start, stop in pairwise(bounds))


def split(shard: Shard, parts: int) -> Iterator[Shard]:
    """Yield up to `parts` non-empty shards that together are `shard`, for threads that share it."""
    for part in shards(len(shard), min(parts, len(shard))) if shard else ():
        yield Shard(shard.start + part.start, shard.start + part.stop, shard.num_microbatches)


def server_slices(num_parameters: int, num_servers: int) -> tuple[tuple[int, int], ...]:
    """Return the half-open slice of the flat vector for each server: whole blocks, sizes differing by at most one.

    At most `num_servers` slices, fewer where there are fewer blocks; together they are the whole vector.
    """
    num_blocks = -(-num_parameters // BLOCK)
    count = max(1, min(num_servers, num_blocks))
    bounds = [min(num_blocks * i // count * BLOCK, num_parameters) for i in range(count + 1)]
    return tuple(pairwise(bounds))


def auto_servers(num_parameters: int, num_workers: int) -> int:
    """Return how many servers `servers: auto` means: one, or as many as workers for large models."""
    return num_workers if num_parameters >= 1 << 19 else 1


def choose_slices(
    num_servers: int | Literal["auto"], num_parameters: int, num_workers: int
) -> tuple[tuple[int, int], ...]:
    """Return the servers' slices for `placement.servers`, resolving "auto"."""
    count = auto_servers(num_parameters, num_workers) if num_servers == "auto" else num_servers
    return server_slices(num_parameters, min(count, num_workers))


def num_local_threads(num_parameters: int, microbatch_size: int, num_workers: int) -> int:
    """Return how many threads to use for the workers of one process: one where a microbatch takes few operations.

    A dense layer's gradient takes 6 operations per weight and example. Measured on two cores: two threads are 2.4
    times slower than one at 0.3 million operations a microbatch, and faster from about 10 million on. There are never
    more threads than cores.
    """
    is_small = 6 * num_parameters * microbatch_size < 10_000_000
    return 1 if is_small else min(num_workers, count_cores())
