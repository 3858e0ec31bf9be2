"""What a plan asks of its examples, whether they are arrays in memory or read as they are needed."""

from __future__ import annotations

from dataclasses import replace

from numpy.typing import ArrayLike

from distbp.config import Config, Placement, Recipe
from distbp.config.sizes import parse_size
from distbp.data import PreparedData
from distbp.protocol.examples import Examples
from distbp.protocol.messages import WorkerTask
from distbp.protocol.planning import smallest_microbatch
from distbp.protocol.supply import Batch, Course, Supply


def along_run(data: PreparedData, config: Config, num_steps: int) -> PreparedData:
    """Return the data for a run of so many steps."""
    recipe, placement = config.recipe, config.placement
    course = Course(
        recipe.global_batch_size,
        recipe.microbatch_size,
        recipe.data.window_blocks,
        num_steps,
        parse_size(placement.memory_for_data),
        parse_size(placement.cache),
        recipe.rounds.steps or 1,
    )

    def along(part: Examples | Supply) -> Examples | Supply:
        return part if isinstance(part, Examples) else part.along(course)

    validation = None if data.validation is None else along(data.validation)
    return replace(data, train=along(data.train), validation=validation)


def find_shortage(data: PreparedData, placement: Placement) -> str | None:
    """Return what to do where data in blocks need more memory than they may have."""
    return None if isinstance(data.train, Examples) else data.train.describe_shortage(placement.min_workers)


def find_extent(part: Examples | Supply) -> tuple[ArrayLike, ArrayLike]:
    """Return the smallest and the largest raw feature, or those of each column."""
    return (part.x.min(), part.x.max()) if isinstance(part, Examples) else part.find_extent()


def take_first(task: WorkerTask, recipe: Recipe) -> Batch:
    """Return the inputs and targets of the run's first microbatch, or of one like it."""
    if isinstance(task.train, Examples):
        return task.train.ready(recipe.dtype).take(slice(0, recipe.microbatch_size), recipe.dtype)
    training = task.train.open_training(task.seed, recipe.dtype)
    try:
        return training.take(0, 0)[:2]
    finally:
        training.close()


def count_fewest(task: WorkerTask, recipe: Recipe) -> int:
    """Return the number of examples in the smallest microbatch of the run."""
    if isinstance(task.train, Examples):
        return smallest_microbatch(recipe, len(task.train))
    return task.train.count_fewest()
