"""Seconds, measured quietly: one thing after the other in this process, on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distbp.config import Recipe
from distbp.lab.trial import plan_for, start_one_worker
from distbp.nn.blas import one_blas_thread
from distbp.nn.streams import Purpose, epoch_order, stream
from distbp.protocol.planning import step_order
from distbp.protocol.supply import in_memory

MIN_ROUND_S = 0.06
NUM_ROUNDS = 5


@dataclass(frozen=True)
class StepTime:
    """Median seconds of one step of `batch_size` in one process with one worker, evaluation not included."""

    batch_size: int
    step_s: float


@dataclass(frozen=True)
class LoopTime:
    """Seconds for the gradient of one mini-batch: as matrices, and as a loop over its examples."""

    batch_size: int
    matrix_s: float
    loop_s: float

    @property
    def factor(self) -> float:
        """How many times faster the matrix is."""
        return self.loop_s / self.matrix_s


@dataclass(frozen=True)
class EpochCount:
    """One epoch's batches: how many, and how often the rarest and the most frequent example was taken."""

    num_batches: int
    num_examples: int
    fewest: int
    most: int


def time_step(recipe: Recipe) -> StepTime:
    """Return the step time of `recipe`, the median of five rounds after two steps of warming up."""
    plan = plan_for(recipe)
    with start_one_worker(plan) as backend:
        reports = backend.run(map(plan.order, range(10**9)))

        def step() -> None:
            next(reports)

        step()
        return StepTime(recipe.global_batch_size, median_seconds(step))


def time_loop(recipe: Recipe) -> LoopTime:
    """Return the times of the product's own gradient over one mini-batch, at once and example by example."""
    plan = plan_for(recipe)
    state = plan.initial_state()
    model = plan.worker.model.build_calm()
    flat, total = np.zeros((2, len(state.parameters)), recipe.dtype)
    parameters, gradient = model.layout.views(state.parameters), model.layout.views(flat)
    x, y = in_memory(plan.worker.train).ready(recipe.dtype).take(slice(0, recipe.global_batch_size), recipe.dtype)
    rng = stream(0, Purpose.DROPOUT)

    def matrix() -> None:
        model.gradient_sums(parameters, x, y, gradient, rng)

    def loop() -> None:
        total[:] = 0
        for i in range(len(x)):
            model.gradient_sums(parameters, x[i : i + 1], y[i : i + 1], gradient, rng)
            np.add(total, flat, out=total)

    with one_blas_thread(), plan.worker.model.pinned():
        matrix()
        loop()
        return LoopTime(len(x), median_seconds(matrix), median_seconds(loop))


def count_epoch(recipe: Recipe) -> EpochCount:
    """Return how often each example is in a batch of one epoch, counted in the orders that workers carry out."""
    num_examples = len(plan_for(recipe).worker.train)
    order = epoch_order(recipe.seed, 0, num_examples)
    steps = -(-num_examples // recipe.global_batch_size)
    counts = np.zeros(num_examples, np.int64)
    for step in range(steps):
        batch = step_order(recipe, step, num_examples)
        np.add.at(counts, order[batch.start : batch.stop], 1)
    return EpochCount(steps, num_examples, int(counts.min()), int(counts.max()))


def median_seconds(call: Callable[[], object], num_rounds: int = NUM_ROUNDS) -> float:
    """Return the median over rounds of the mean seconds of one call; a round lasts at least 60 ms."""
    began = time.perf_counter()
    call()
    once = time.perf_counter() - began
    repeat = max(1, round(MIN_ROUND_S / max(once, 1e-7)))
    return statistics.median(_round(call, repeat) for _ in range(num_rounds))


def _round(call: Callable[[], object], repeat: int) -> float:
    began = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - began) / repeat
