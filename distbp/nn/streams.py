"""All randomness: every draw is keyed by (seed, purpose, indices), never "the next number of a shared stream"."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a stream of random numbers is for; the numbers are part of the recipe and never change."""

    INIT = 0
    ORDER = 1
    DROPOUT = 2


def stream(seed: int, purpose: Purpose, first: int = 0, second: int = 0) -> np.random.Generator:
    """Return the generator that belongs to this key alone (Philox, Salmon et al. 2011: key and counter)."""
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, 0, first, second], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Streams:
    """The generators of one seed and purpose. One generator gets a new key each time: 1 microsecond instead of 8."""

    def __init__(self, seed: int, purpose: Purpose):
        self._generator = stream(seed, purpose)
        self._fresh: Any = self._generator.bit_generator.state

    def at(self, first: int, second: int) -> np.random.Generator:
        """Return what `stream` gives for this key; it is valid until the next call."""
        self._fresh["state"]["counter"][2:] = (first, second)
        self._generator.bit_generator.state = self._fresh
        return self._generator


def epoch_order(seed: int, epoch: int, num_examples: int) -> NDArray[np.int64]:
    """Return the order of the examples in one epoch: a permutation of 0 .. num_examples - 1, int64."""
    return stream(seed, Purpose.ORDER, epoch).permutation(num_examples)
