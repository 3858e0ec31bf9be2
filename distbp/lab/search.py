"""The seeded search for learning rate and momentum, the same for every batch size and independent of all others. Pure.

Momentum multiplies the way a step goes in the long run by 1 / (1 - momentum), so the search walks over the effective
rate learning_rate / (1 - momentum) and over 1 - momentum, both on logarithmic scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EFFECTIVE_RATES = (3e-3, 30.0)
REMAINDERS = (0.01, 1.0)
"""Of 1 - momentum: momentum from 0 to 0.99."""
NUM_EXPLORING = 10
REFINING_FACTOR = 3.0
GUESSED_MOMENTUM = 0.9

# Roberts 2018: the additive recurrence that fills the unit square most evenly steps by 1/g and 1/g^2 with g^3 = g + 1.
_PLASTIC = 1.32471795724474602596
_STEP = np.array([1 / _PLASTIC, 1 / _PLASTIC**2])


@dataclass(frozen=True)
class Candidate:
    """One choice to try."""

    learning_rate: float
    momentum: float

    @property
    def effective_rate(self) -> float:
        """learning_rate / (1 - momentum)."""
        return self.learning_rate / (1 - self.momentum)


def propose(seed: int, index: int, batch_size: int, best: Candidate | None) -> Candidate:
    """Return candidate number `index`: a guess, nine spread over the whole range, then ones near the best so far.

    A first guess that is not bad saves time: the others end when they can no longer be faster.
    """
    if index == 0:
        return guess(batch_size)
    rng = np.random.default_rng((seed, 0))
    across, along = (rng.random(2) + index * _STEP) % 1
    if index < NUM_EXPLORING or best is None:
        return _candidate(_between(*EFFECTIVE_RATES, across), _between(*REMAINDERS, along))
    rate = best.effective_rate * REFINING_FACTOR ** (2 * across - 1)
    remainder = (1 - best.momentum) * REFINING_FACTOR ** (2 * along - 1)
    return _candidate(rate, min(max(remainder, REMAINDERS[0] / 4), 1.0))


def guess(batch_size: int) -> Candidate:
    """Return what one would try first: an effective rate that grows with the square root of the batch."""
    return _candidate(min(max(0.02 * batch_size**0.5, 0.02), 5.0), 1 - GUESSED_MOMENTUM)


def _between(low: float, high: float, part: float) -> float:
    return float(low * (high / low) ** part)


def _candidate(effective_rate: float, remainder: float) -> Candidate:
    """Return the candidate in four digits, so that it can be typed again."""
    momentum = round(float(1 - remainder), 4)
    return Candidate(float(f"{effective_rate * (1 - momentum):.4g}"), momentum)
