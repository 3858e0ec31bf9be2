"""Which batch, workers and servers to use, decided from what a probe measured. Pure.

The number of steps follows McCandlish et al. 2018. S(B), the steps at batch size B to what the recipe would reach, is
proportional to 1 + B_crit / B. The learning rate that suits B is proportional to 1 / (1 + B_crit / B) (equation 2.7).

Before any trial, B_crit is taken as 2.5 times the gradient's noise scale, with an uncertainty of a factor of 2. Fits
with rate and momentum tuned at every batch size gave one to five times, and with momentum larger batches pay (Shallue
et al. 2019). Tuned trials at a few batch sizes then make the estimate better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from distbp.lab.hyperbola import Hyperbola

Backend = Literal["local", "ray"]
WORTH_IT = 1.2
"""Being distributed, or more workers, must be this many times faster to be worth it: less is within a probe's error."""
NEAR_ENOUGH = 1.5
CRITICAL_PER_NOISE = 2.5
NUM_DRAWS = 400
TIMING_SPREAD, NOISE_SPREAD, STEPS_SPREAD = 0.25, math.log(2), 0.3
"""How uncertain a step time, B_crit by the noise scale, and the fewest steps of a few trials are, as standard
deviations of their logarithms."""


@dataclass(frozen=True)
class TunedSteps:
    """The fewest steps to the goal of `num_trials` trials at one batch size."""

    batch_size: int
    steps: int
    num_trials: int


@dataclass(frozen=True)
class Critical:
    """What is known of B_crit: its median, and the standard deviation of its logarithm."""

    batch_size: float
    spread: float


@dataclass(frozen=True)
class Placing:
    """Where a training could run."""

    backend: Backend
    workers: int
    servers: int

    @property
    def effort(self) -> tuple[bool, int, int]:
        """Orders placings from the simplest to the most elaborate."""
        return (self.backend == "ray", self.workers, self.servers)


@dataclass(frozen=True)
class Option:
    """A placing at a batch size, and its measured (or interpolated) step time."""

    placing: Placing
    batch_size: int
    step_s: float


@dataclass(frozen=True)
class Advice:
    """The option to take.

    seconds: to what the recipe would reach. one_worker_s: the same for one worker in one process, at its own best batch
    size. num_steps, learning_rate: what the option needs. sure: the probability that it takes at most 1.5 times the
    seconds of the best option, given how uncertain the measurements are.
    """

    option: Option
    num_steps: int
    learning_rate: float
    seconds: float
    one_worker: Option
    one_worker_s: float
    sure: float

    @property
    def times_faster(self) -> float:
        """Against one worker in one process at its own best batch size."""
        return self.one_worker_s / self.seconds

    @property
    def is_distributed(self) -> bool:
        """Whether it uses Ray at all."""
        return self.option.placing.backend == "ray"


def estimate_critical(noise_scale: float, tuned: Sequence[TunedSteps] = ()) -> Critical:
    """Return the estimate of B_crit from the noise scale and tuned trials (Bayes' rule on a grid of logarithms)."""
    deviations = np.linspace(-5, 5, 401)
    logs = math.log(CRITICAL_PER_NOISE * noise_scale) + NOISE_SPREAD * deviations
    misfits = deviations**2
    if len(tuned) > 1:
        sizes = np.array([found.batch_size for found in tuned], float)
        off = np.log([found.steps for found in tuned]) - np.log1p(np.exp(logs)[:, None] / sizes)
        misfits += len(tuned) * off.var(axis=1) / STEPS_SPREAD**2
    weights = np.exp(-misfits / 2)
    mean = float(np.average(logs, weights=weights))
    return Critical(math.exp(mean), math.sqrt(float(np.average((logs - mean) ** 2, weights=weights))))


def learning_curve(critical: Critical, batch_size: int, num_steps: int) -> Hyperbola:
    """Return the curve on which `batch_size` needs `num_steps`."""
    return Hyperbola(num_steps / (1 + critical.batch_size / batch_size), critical.batch_size)


def seconds_of(option: Option, curve: Hyperbola) -> float:
    """Return the expected seconds to the goal."""
    return curve.steps(option.batch_size) * option.step_s


def keep_pace(learning_rate: float, critical: float, old: int, new: int) -> float:
    """Return the learning rate for another batch size, in two digits: linear below the critical size, then level."""
    rate = learning_rate * (1 + critical / old) / (1 + critical / new)
    return float(f"{rate:.2g}")


def decide(
    options: Sequence[Option], critical: Critical, batch_size: int, num_steps: int, learning_rate: float
) -> Advice:
    """Return the simplest option that is about as fast as the fastest.

    options: one worker in one process is among them. batch_size, num_steps, learning_rate: the recipe's own.
    """
    curve = learning_curve(critical, batch_size, num_steps)
    alone = [o for o in options if o.placing == Placing("local", 1, 1)]
    one_worker = min(alone, key=lambda option: seconds_of(option, curve))
    option = _simplest_fast(options, curve)
    return Advice(
        option=option,
        num_steps=max(1, round(curve.steps(option.batch_size))),
        learning_rate=keep_pace(learning_rate, curve.critical_batch_size, batch_size, option.batch_size),
        seconds=seconds_of(option, curve),
        one_worker=one_worker,
        one_worker_s=seconds_of(one_worker, curve),
        sure=_how_sure(option, options, critical),
    )


def _simplest_fast(options: Sequence[Option], curve: Hyperbola) -> Option:
    """Return the fastest option of a placing: the simplest one that comes within 20 percent of the best."""
    fastest = min(seconds_of(option, curve) for option in options)
    near = [option for option in options if seconds_of(option, curve) <= WORTH_IT * fastest]
    simplest = min(option.placing.effort for option in near)
    return min(
        (option for option in near if option.placing.effort == simplest), key=lambda option: seconds_of(option, curve)
    )


def _how_sure(chosen: Option, options: Sequence[Option], critical: Critical) -> float:
    """Return the share of 400 draws of true times and B_crit in which the chosen option is near the best."""
    rng = np.random.default_rng(0)
    sizes = np.array([option.batch_size for option in options], float)
    times = np.array([option.step_s for option in options])
    index = list(options).index(chosen)
    placings = sorted({option.placing for option in options}, key=lambda placing: placing.effort)
    group = np.array([placings.index(option.placing) for option in options])
    good = 0
    for _ in range(NUM_DRAWS):
        drawn = critical.batch_size * math.exp(critical.spread * rng.standard_normal())
        wrong = np.exp(TIMING_SPREAD * rng.standard_normal(len(placings)))[group]
        seconds = (1 + drawn / sizes) * times * wrong
        good += seconds[index] <= NEAR_ENOUGH * seconds.min()
    return good / NUM_DRAWS


def interpolate(options: Sequence[Option], batch_sizes: Sequence[int]) -> list[Option]:
    """Return options at `batch_sizes` between those measured, linear in the logarithms, for one placing."""
    known = sorted(options, key=lambda option: option.batch_size)
    logs = np.log([option.batch_size for option in known]), np.log([option.step_s for option in known])
    inside = [size for size in batch_sizes if known[0].batch_size <= size <= known[-1].batch_size]
    return [
        replace(known[0], batch_size=size, step_s=math.exp(float(np.interp(math.log(size), *logs)))) for size in inside
    ]


def describe_certainty(sure: float) -> str:
    """Return how sure that is in a word."""
    return "sure" if sure >= 0.95 else "fairly sure" if sure >= 0.8 else "a guess"
