"""Whether an old run may go on: recipe, data and arithmetic have to be those it was started with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from distbp.config import Placement, Recipe
from distbp.errors import CheckpointError, NumericsError
from distbp.nn.build import ModelSpec
from distbp.nn.numerics import describe_kernels, is_same_arithmetic, list_kernels
from distbp.run import CheckpointStore, RunDirectory
from distbp.training.checkpoint_contents import check_data
from distbp.training.plan import Plan

logger = logging.getLogger("distbp")


def adopt(run: RunDirectory, placement: Placement, plan: Plan) -> dict[str, Any] | None:
    """Make the run one of this plan, whose recipe may name more epochs, or another place of the same data.

    Return its result if it has finished; a run that gets more epochs has not. Whatever is refused is so before
    anything is changed.
    """
    check_same_recipe(run, plan.recipe)
    stored = CheckpointStore(run, keep=1).newest_data()
    if stored is not None:
        check_data(plan, stored)
    theirs = run.read_config().recipe
    finished = run.read_result() if theirs.epochs == plan.recipe.epochs else None
    if finished is None:
        _check_numerics(run, plan.worker.model, placement)
    if theirs != plan.recipe:
        run.change_recipe(plan.recipe)
    return finished


def check_same_recipe(run: RunDirectory, recipe: Recipe) -> None:
    """Raise CheckpointError unless `recipe` is the run's, or the same with more epochs where that changes no step."""
    theirs = run.read_config().recipe
    if theirs.digest == recipe.digest:
        return
    if theirs.model_copy(update={"epochs": recipe.epochs}).digest == recipe.digest and recipe.epochs > theirs.epochs:
        _check_more_epochs(run, theirs, recipe.epochs)
        return
    place = {"source": recipe.data.source}  # it may be another, so it is no reason
    theirs = theirs.model_copy(update={"data": theirs.data.model_copy(update=place)})
    changed = _differences(theirs.model_dump(), recipe.model_dump(), "recipe")
    raise CheckpointError(
        f"'{run.url}' was started with another recipe ({'; '.join(changed[:3])}); choose another --name"
    )


def _check_more_epochs(run: RunDirectory, theirs: Recipe, epochs: int) -> None:
    """Raise CheckpointError where the first epochs of a longer run are not those that were trained already."""
    what = f"'{run.url}' cannot go on from {theirs.epochs} to {epochs} epochs"
    if theirs.schedule.kind == "cosine":
        raise CheckpointError(f"{what}: its cosine schedule ends with epoch {theirs.epochs}; choose another --name")
    result = run.read_result()
    if result is not None and result.get("stopped_early"):
        raise CheckpointError(
            f"{what}: early stopping ended it after {result.get('epochs')}; choose another --name, "
            "with a larger early_stopping.patience"
        )


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> list[str]:
    """Return a sentence for each value that differs."""
    found = []
    for key in ours:
        a, b = theirs.get(key), ours[key]
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{path}.{key}")
        elif a != b:
            found.append(f"{path}.{key} was {a!r} and is now {b!r}")
    return found


def _check_numerics(run: RunDirectory, model: ModelSpec, placement: Placement) -> None:
    """Refuse to go on where this process computes other bits than those the run was started with."""
    then = run.read_numerics()
    if is_same_arithmetic(then, model):
        return
    message = (
        f"this machine computes other floating-point results than '{run.url}' was started with "
        f"(then {describe_kernels(then)}, now {describe_kernels(list_kernels())}); use the same NumPy and the "
        "kernels of then (placement.portable as then, or OPENBLAS_CORETYPE), or accept other bits with "
        "placement.on_numerics_mismatch=warn"
    )
    if placement.on_numerics_mismatch == "refuse":
        raise NumericsError(message)
    logger.warning("%s", message)
