"""How large the microbatches of a batch are where nobody says: one rule, with the numbers of all who use it.

A recipe's microbatch size is part of the recipe: it fixes which gradients are added in which order. So the numbers
here never change for recipes. Those who write recipes of their own cut their batches otherwise, each for a reason:

- a recipe (`auto`): 8 microbatches, so that up to 8 workers can share a batch of any size; in rounds at least one for
  each replica, and equally many;
- the advice: 4, or one for each worker, because fewer are faster, but of 16 examples, below which computing on them
  costs more for each example;
- trials of studies: of 256 examples, as many as are efficient, so that large batches are not handicapped: a trial
  runs in one process, and nobody shares its batch;
- step times in the workers study: of 32 examples, so that 32 workers share its batch of 1,024.
"""

from __future__ import annotations

RECIPE_MICROBATCHES = 8
ADVISED_MICROBATCHES, ADVISED_EXAMPLES = 4, 16
TRIAL_EXAMPLES = 256
TIMING_EXAMPLES = 32


def choose_microbatch_size(batch_size: int, at_most: int | None = None, smallest: int = 1) -> int:
    """Return the size with which a batch has at most `at_most` microbatches, none below `smallest` examples.

    at_most: None for any number. A batch smaller than `smallest` is one microbatch.
    """
    even = 1 if at_most is None else -(-batch_size // at_most)
    return min(batch_size, max(smallest, even))


def choose_replica_microbatch_size(batch_size: int, num_replicas: int) -> int:
    """Return the size with which each of `num_replicas` has equally many microbatches of a batch, 8 or more in all."""
    part = max(1, batch_size // num_replicas)
    return -(-part // -(-RECIPE_MICROBATCHES // num_replicas))
