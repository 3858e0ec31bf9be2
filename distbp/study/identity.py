"""Which recipe a study trains, and on which data: what must be the same when a stopped study goes on."""

from __future__ import annotations

from typing import Any

from distbp.config import Recipe
from distbp.training.plan import Plan


def identify_training(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """Return the settled recipe of the study's `plan`, and the fingerprint of its data.

    What the data choose is part of it, so a value that is set is told from one that is left to them. The batch is the
    one that was asked for, as earlier versions stored it, even where there are fewer examples.
    """
    sizes = {"global_batch_size": recipe.global_batch_size, "microbatch_size": recipe.microbatch_size}
    return {"recipe": plan.recipe.model_copy(update=sizes).model_dump(mode="json"), **plan.fingerprint.to_json()}
