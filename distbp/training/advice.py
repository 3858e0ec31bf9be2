"""What to do after training diverged: the setting to try first, with its value."""

from __future__ import annotations

from distbp.config import Recipe
from distbp.data import advise_on_targets
from distbp.protocol.examples import Examples
from distbp.protocol.supply import Supply

RATE_FACTOR = 10.0
"""How much smaller the rate that is advised: the next on the grid that people search."""
LARGEST_RATE = 0.1
"""That is advised: the default."""


def advise_after_divergence(recipe: Recipe, train: Examples | Supply) -> str:
    """Return what leads out, in the order in which it helps: targets near 1, clipping, a smaller rate."""
    optimizer = recipe.optimizer
    rate = f"learning_rate={min(optimizer.learning_rate / RATE_FACTOR, LARGEST_RATE):g}"
    again = "under another --name, since a run keeps its recipe"
    targets = advise_on_targets(train, limit=10.0)
    if targets is not None and recipe.data.target_scaling == "none":
        return f"{targets}, or set data.target_scaling=standard, which does it for you"
    if optimizer.largest_norm is None:
        rate = f"{rate}, or clip_norm=1, which cuts a gradient that is too large"
    return f"try a learning rate below {optimizer.learning_rate:g}, such as {rate}, or warmup_steps; {again}"
