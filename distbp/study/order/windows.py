"""How narrow the order of data in blocks may be: examples sorted by class, in the order of lanes and windows.

The order is the product's own. The examples stay in memory, so that nothing else differs from the full shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.config import Recipe
from distbp.data.blocks.order import BlockOrder, Lanes
from distbp.lab.trial import error_of, plan_for, reseed, start_one_worker
from distbp.protocol.examples import Examples
from distbp.protocol.planning import lane_order, step_order
from distbp.protocol.supply import Batch, Supply, in_memory

NUM_BLOCKS = 60
WINDOWS = (1, 2, 4, 8)
NUM_SEEDS = 3


@dataclass(frozen=True)
class WindowTrial:
    """A run of `recipe` on blocks sorted by class. window_blocks: of the order; None shuffles all examples."""

    recipe: Recipe
    window_blocks: int | None
    seed: int


@dataclass(frozen=True)
class WindowResult:
    """The validation error at the end; None: it diverged."""

    error: float | None


@dataclass(frozen=True)
class WindowFinding:
    """The final errors of runs with one width of window, a run for each seed."""

    window_blocks: int | None
    errors: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the errors."""
        return sum(self.errors) / len(self.errors)

    @property
    def label(self) -> str:
        """What to call it."""
        return "full shuffle" if self.window_blocks is None else f"windows of {self.window_blocks}"


def list_window_trials(recipe: Recipe) -> list[WindowTrial]:
    """Return the runs to compare: the full shuffle and each width, with the same seeds."""
    seeds = range(recipe.seed, recipe.seed + NUM_SEEDS)
    return [WindowTrial(recipe, window, seed) for window in (None, *WINDOWS) for seed in seeds]


def gather_windows(trials: Sequence[WindowTrial], results: Sequence[WindowResult]) -> tuple[WindowFinding, ...]:
    """Return the errors by width of window; runs that diverged are left out, and widths without a run."""
    found: dict[int | None, list[float]] = {}
    for trial, result in zip(trials, results, strict=True):
        if result.error is not None:
            found.setdefault(trial.window_blocks, []).append(result.error)
    return tuple(WindowFinding(window, tuple(errors)) for window, errors in found.items())


def run_window_trial(trial: WindowTrial) -> WindowResult:
    """Train and return the error at the end."""
    plan = reseed(plan_for(trial.recipe), trial.seed, trial.seed)
    recipe = plan.recipe
    make_order, count = step_order, len(plan.worker.train)
    if trial.window_blocks is not None:
        sorted_blocks = _SortedBlocks(in_memory(plan.worker.train), recipe, trial.window_blocks)
        worker = replace(plan.worker, train=cast(Supply, sorted_blocks))  # a worker asks for nothing else of a supply
        plan = replace(plan, worker=worker)
        make_order = lane_order
    with start_one_worker(plan) as backend:
        for report in backend.run(make_order(recipe, step, count) for step in range(plan.num_steps)):
            if not report.committed:
                return WindowResult(None)
        return WindowResult(error_of(backend.evaluate()))


class _SortedBlocks:
    """Examples in memory in the order of blocks that are sorted by class."""

    def __init__(self, examples: Examples, recipe: Recipe, window_blocks: int):
        self._examples = examples
        self._recipe = recipe
        self._window_blocks = window_blocks

    def __len__(self) -> int:
        return len(self._examples)

    def open_training(self, seed: int, dtype: DTypeLike) -> _SortedTraining:
        count, recipe = len(self), self._recipe
        by_class = np.argsort(self._examples.y[self._examples.rows], kind="stable")
        starts = np.linspace(0, count, min(NUM_BLOCKS, count) + 1).astype(np.int64)
        lanes = Lanes(count, recipe.global_batch_size, recipe.microbatch_size)
        order = BlockOrder(np.diff(starts), lanes, self._window_blocks, seed)
        return _SortedTraining(self._examples.ready(dtype), dtype, by_class, starts, order)


@dataclass(frozen=True)
class _SortedTraining:
    examples: Examples
    dtype: DTypeLike
    by_class: NDArray[np.int64]
    starts: NDArray[np.int64]
    order: BlockOrder
    waited_s: float = 0.0

    def begin(self, step: int, epoch: int, positions: slice, lanes: range, first: int = 0) -> None:
        """All is there."""

    def take(self, step: int, microbatch: int) -> Batch:
        found = self.order.select(step, microbatch)
        return self.examples.take_judged(self.by_class[self.starts[found.blocks] + found.rows], self.dtype)

    def hurry(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing reads."""
