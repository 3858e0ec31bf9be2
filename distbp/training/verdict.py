"""Whether a result is any good: beside what saying the same of every example is worth, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from distbp.protocol.examples import Examples
from distbp.training.plan import Plan

FEW_ROWS = 100
FEW_EXAMPLES = 10
STILL_FALLING = 0.02
"""Of the validation loss, over the last tenth of 10 epochs or more, at whose end it is lowest."""


@dataclass(frozen=True)
class Verdict:
    """Of the validation examples. largest_class: the share of the class that is most frequent in training, in them.

    r2: 1 - loss / (the loss of always saying the mean), over all targets together; it is 0 for the mean. None where
    it does not apply.
    """

    largest_class: float | None
    r2: float | None


def judge(plan: Plan, validation_loss: float | None) -> Verdict:
    """Return what a result is to be held against. Raises nothing: what does not apply is None."""
    data = plan.data
    validation, schema = data.validation, data.schema
    if not isinstance(validation, Examples) or not isinstance(data.train, Examples):
        return Verdict(None, None)
    if validation_loss is None or schema.target_shape:
        return Verdict(None, None)
    if schema.classes is not None:
        largest = np.bincount(data.train.y[data.train.rows]).argmax()
        return Verdict(_share(validation, validation.y[validation.rows] == largest), None)
    if plan.recipe.model.loss != "squared_error" or plan.recipe.model.function is not None:
        return Verdict(None, None)
    spread = _spread(validation)
    return Verdict(None, 1 - validation_loss / spread if spread > 0 else None)


def find_warnings(plan: Plan, verdict: Verdict, accuracy: float | None, losses: Sequence[float]) -> Iterator[str]:
    """Yield what to know about a result. losses: of the validation examples after each epoch."""
    num_rows = len(plan.data.train)
    is_plain = plan.recipe.data.class_weights is None  # with weights the largest class is given up on purpose
    if is_plain and verdict.largest_class is not None and accuracy is not None and accuracy <= verdict.largest_class:
        yield (
            f"the accuracy, {accuracy:.4f}, is no better than naming the most frequent class every time "
            f"({verdict.largest_class:.4f}); try data.class_weights=balanced, and distbp evaluate for each class"
        )
    if verdict.r2 is not None and verdict.r2 <= 0:
        yield (
            f"the network predicts no better than the mean of the targets (R2 {verdict.r2:.3f}, where the mean has 0); "
            "train longer, or look for columns that say more about the target"
        )
    if plan.schema.columns is not None and num_rows < FEW_ROWS:
        yield f"only {num_rows} rows train, so another seed may give quite another result"
    step = len(losses) // 10  # with fewer epochs than 10 it is known to be short
    if step and losses[-1] == min(losses) and losses[-1] < (1 - STILL_FALLING) * losses[-1 - step]:
        yield f"the validation loss is still falling at the end; more epochs than {plan.recipe.epochs} may help"


def find_rare_classes(plan: Plan) -> Iterator[str]:
    """Yield which classes of a table have few training examples."""
    schema, train = plan.schema, plan.data.train
    if schema.columns is None or schema.classes is None or not isinstance(train, Examples):
        return
    counts = np.bincount(train.y[train.rows], minlength=len(schema.classes))
    rare = [f"{schema.classes[k]!r} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < FEW_EXAMPLES))]
    if rare:
        more = f" and {len(rare) - 3} more" if len(rare) > 3 else ""
        yield f"few training examples are of class {', '.join(rare[:3])}{more}, so the network hardly learns it"


def _share(examples: Examples, hits: np.ndarray) -> float:
    weights = examples.take_weights(slice(None))
    return float(np.average(hits, weights=weights))


def _spread(examples: Examples) -> float:
    """Return the loss of always saying the mean: the variance of the targets, added over them."""
    y, weights = examples.y[examples.rows], examples.take_weights(slice(None))
    mean = np.average(y, axis=0, weights=weights)
    return float(np.average(((y - mean) ** 2).sum(axis=1), weights=weights))
