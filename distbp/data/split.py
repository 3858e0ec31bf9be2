"""The seeded split into training and validation rows: a pure function of the fraction, the seed and the count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError

SPLIT = 0x73706C6974  # the purpose in (seed, purpose), "split" in ASCII


def split_rows(num_examples: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the training rows and the validation rows (None for fraction 0), both (n,) int64 and ascending.

    Raises DataError unless each part gets an example.
    """
    if fraction == 0.0:
        return np.arange(num_examples), None
    num_validation = round(fraction * num_examples)
    if not 0 < num_validation < num_examples:
        raise DataError(
            f"validation={fraction} of {num_examples} examples leaves {num_examples - num_validation} for training and "
            f"{num_validation} for validation; each needs at least 1, so change validation (0.0: none) or add data"
        )
    order = np.random.default_rng([seed, SPLIT]).permutation(num_examples)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])
