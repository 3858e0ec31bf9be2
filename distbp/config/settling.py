"""What a recipe's open values become once the data are known: `auto`, a loss of null, columns without a kind.

A recipe that is trained is settled: each of its values says what is done. That recipe is the run's, in config.yaml and
in its digest. So nothing that is chosen here is chosen again when a run goes on, and a later version may choose
otherwise without touching an old run.

Arrays, images and the digits settle to what version 0.1.0 did with them (`distbp.config.identity.FIRST_DEFAULTS`), so
recipes for them keep their digests and their bits. Other choices are for what did not train before: tables, whose
columns were numbers without gaps or refused; and numbers to predict where no loss is named, which was an error. Where a
recipe names squared_error for arrays of numbers, it did train, and nothing about it changes.

The choices for tables were measured: `tests/bench/tables.py`, `tests/bench/tables_speed.py`. A number that has a
default of its own, `epochs`, `weight_decay` and the sizes of batch and microbatch, is chosen only where nobody has set
it; once it is chosen it is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distbp.config.recipe import Data, Model, Optimizer, Recipe, default_microbatch_size

TABLE_CLIP_NORM = 1.0
TABLE_WEIGHT_DECAY = 0.003
FEWEST_STEPS, MOST_EPOCHS = 300, 100
MOST_STEPS, LARGEST_BATCH = 500, 512
"""Steps in an epoch of a large table, as long as its batch is no larger than this."""


@dataclass(frozen=True)
class Facts:
    """What the data are.

    is_table: their columns have kinds. is_regression: the targets are numbers. has_many_labels: several targets, each
    one of two classes. is_in_memory: else they are read in blocks, whose targets are scaled only if asked.
    """

    is_table: bool
    is_regression: bool
    num_examples: int
    has_many_labels: bool = False
    is_in_memory: bool = True


def settle(recipe: Recipe, facts: Facts) -> Recipe:
    """Return the recipe with every value that was left to the data, and a batch that is not larger than them."""
    is_new = facts.is_table or (facts.is_regression and recipe.model.loss is None)
    scales_targets = facts.is_regression and facts.is_in_memory and is_new and _is_ours(recipe.model)
    parts: dict[str, Any] = {"data": settle_data(recipe.data, facts.is_table, scales_targets)}
    if recipe.model.loss is None:
        loss = "squared_error" if facts.is_regression else "cross_entropy"
        loss = "binary_cross_entropy" if facts.has_many_labels else loss
        parts["model"] = recipe.model.model_copy(update={"loss": loss})
    parts["optimizer"] = _settle_optimizer(recipe.optimizer, is_new, facts.is_table)
    if recipe.schedule.kind == "auto":
        kind = "cosine" if is_new else "constant"
        parts["schedule"] = recipe.schedule.model_copy(update={"kind": kind})
    if facts.is_table and "global_batch_size" not in recipe.model_fields_set:
        recipe = _with_batch(recipe, choose_table_batch(recipe.global_batch_size, facts.num_examples))
    settled = recipe.model_copy(update={**parts, **_fit_batch(recipe, facts.num_examples)})
    if not facts.is_table or "epochs" in recipe.model_fields_set:
        return settled
    return settled.model_copy(update={"epochs": _choose_epochs(settled, facts.num_examples)})


def _settle_optimizer(optimizer: Optimizer, is_new: bool, is_table: bool) -> Optimizer:
    chosen: dict[str, Any] = {}
    if optimizer.clip_norm == "auto":
        chosen["clip_norm"] = TABLE_CLIP_NORM if is_new else None
    if is_table and optimizer.kind == "sgd" and "weight_decay" not in optimizer.model_fields_set:
        chosen["weight_decay"] = TABLE_WEIGHT_DECAY
    return optimizer.model_copy(update=chosen)


def settle_data(data: Data, is_table: bool, scales_targets: bool) -> Data:
    """Return the data's settings without `auto`; columns of a table are those that were chosen already."""
    chosen: dict[str, Any] = {}
    if not is_table:
        chosen["columns"] = None
    if data.target_scaling == "auto":
        chosen["target_scaling"] = "standard" if scales_targets else "none"
    return data.model_copy(update=chosen)


def _is_ours(model: Model) -> bool:
    """Return whether the loss is one of ours, which is as good for scaled targets as for others."""
    return model.function is None and not model.has_own_loss


def choose_table_batch(default: int, num_examples: int) -> int:
    """Return the batch of a table that leaves it open: doubled while an epoch would be more than MOST_STEPS steps."""
    size = default
    while size < LARGEST_BATCH and num_examples > MOST_STEPS * size:
        size *= 2
    return size


def _with_batch(recipe: Recipe, size: int) -> Recipe:
    sizes = {"global_batch_size": size}
    if "microbatch_size" not in recipe.model_fields_set:
        sizes["microbatch_size"] = default_microbatch_size(size, recipe.rounds)
    return recipe.model_copy(update=sizes)


def _choose_epochs(recipe: Recipe, num_examples: int) -> int:
    """Return the default, or as many epochs as make FEWEST_STEPS steps of a small table, but not too many."""
    steps_per_epoch = -(-num_examples // recipe.global_batch_size)
    return max(recipe.epochs, min(MOST_EPOCHS, -(-FEWEST_STEPS // steps_per_epoch)))


def _fit_batch(recipe: Recipe, num_examples: int) -> dict[str, int]:
    if recipe.global_batch_size <= num_examples:
        return {}
    was_auto = recipe.microbatch_size == default_microbatch_size(recipe.global_batch_size, recipe.rounds)
    size = default_microbatch_size(num_examples, recipe.rounds) if was_auto else recipe.microbatch_size
    return {"global_batch_size": num_examples, "microbatch_size": min(size, num_examples)}
