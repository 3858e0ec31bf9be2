"""The arithmetic of rounds: the mean of replicas' parameters, and the step that follows it. All arrays are (n,).

Both are made of differences, so that a parameter that no replica has changed keeps its value.
"""

from __future__ import annotations

from numpy.typing import NDArray

from distbp.config import Outer


def add_to_mean(mean: NDArray, other: NDArray, share: float) -> None:
    """Move `mean` in place to the weighted mean of both; `other` is used up. share: the part of `other` in it."""
    other -= mean
    other *= share
    mean += other


def share_of(num_examples: int, num_others: int) -> float:
    """Return which part of a mean over both the others are, who have learned from `num_others` examples."""
    total = num_examples + num_others
    return num_others / total if total else 0.0


def outer_step(parameters: NDArray, velocity: NDArray, mean: NDArray, outer: Outer) -> None:
    """Update parameters w and velocity v in place. mean: of the replicas' parameters, m, which is used up.

    g = w - m;  v <- momentum v + g;  d = v, or g + momentum v with Nesterov;  w <- m + (g - learning_rate d).
    That is SGD along g, w - learning_rate d, without the rounding that w - (w - m) would have: at rate 1 without
    momentum w becomes m itself, to the bit.
    """
    if outer.momentum == 0 and outer.learning_rate == 1:
        parameters[...] = mean
        return
    g = parameters - mean
    if outer.momentum == 0:
        d = outer.learning_rate * g
    else:
        velocity *= outer.momentum
        velocity += g
        d = outer.momentum * velocity + g if outer.nesterov else velocity.copy()
        d *= outer.learning_rate
    g -= d
    mean += g
    parameters[...] = mean
