"""Training curves and what they show: steps to a goal, slopes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EVALUATION_SPACING = 0.04
"""Evaluations are this much of the steps done apart, so steps to a goal are known to about 4 percent."""


@dataclass(frozen=True)
class CurvePoint:
    """Where training stood after `step` steps. error: wrong validation predictions, 0 to 1; for regression the loss."""

    step: int
    loss: float
    error: float


def next_evaluation(step: int) -> int:
    """Return the step at which to evaluate next: every step at first, then evenly spaced in log(step)."""
    return max(step + 1, math.ceil(step * (1 + EVALUATION_SPACING)))


def first_below(curve: Sequence[CurvePoint], goal: float) -> int | None:
    """Return the first step whose validation error is strictly below `goal`; None if there is none.

    Shallue et al. 2019, section 3: steps to result.
    """
    return next((point.step for point in curve if point.error < goal), None)


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of log y over log x, of two points or more."""
    slope, _ = np.polyfit(np.log(x), np.log(y), 1)
    return float(slope)


def choose_goals(initial_error: float, reachable_error: float) -> tuple[float, ...]:
    """Return three goals, easiest first, between the error at the start and the one a plain run reached.

    They lie 40, 25 and 15 percent of the way up from reachable to initial on a logarithmic scale, in two digits.
    """
    floor = max(reachable_error, initial_error * 1e-3)
    goals = (floor * (initial_error / floor) ** part for part in (0.4, 0.25, 0.15))
    return tuple(dict.fromkeys(float(f"{goal:.2g}") for goal in goals))


def choose_batch_sizes(num_examples: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and `num_examples`; a power of two just below `num_examples` is left out."""
    powers = (1 << power for power in range(num_examples.bit_length()))
    return (*(size for size in powers if 1.3 * size <= num_examples), num_examples)
