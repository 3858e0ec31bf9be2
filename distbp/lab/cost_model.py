"""What a step costs with W workers and S servers: a small model, fitted to measured steps, that predicts others. Pure.

    step = compute + waiting + transfer + commit

compute   c0 + c1 m + c2 b + c3 n b + c4 n m   a worker's m microbatches, b examples, n parameters; times the active
                                               workers to a core, where they share cores
waiting   spread * compute * z(W)              for the slowest: z(W) is the expected largest of W standard normal draws
transfer  t0 + t1 (W - 1) + bytes / rate       a call and its peers; bytes in and out of the busiest node
commit    k0 + k1 n / S + k2 n W / S           the update of a slice, and adding up what W workers sent

Workers beyond the number of microbatches compute and send nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from distbp.protocol.planning import num_microbatches

BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Setting:
    """What a step's cost depends on. cores: that the workers share; None: each has its own."""

    workers: int
    servers: int
    num_parameters: int
    batch_size: int
    microbatch_size: int
    cores: int | None = None

    @property
    def examples(self) -> float:
        """b: examples of the worker with the most, in whole microbatches."""
        return min(self.microbatches * self.microbatch_size, self.batch_size)

    @property
    def microbatches(self) -> int:
        """m: microbatches of the worker with the most."""
        return -(-num_microbatches(self.batch_size, self.microbatch_size) // self.workers)

    @property
    def active(self) -> int:
        """How many workers have a microbatch to compute."""
        return min(self.workers, num_microbatches(self.batch_size, self.microbatch_size))

    @property
    def crowding(self) -> float:
        """How many active workers share a core."""
        return 1.0 if self.cores is None else max(1.0, self.active / self.cores)

    @property
    def busiest_bytes(self) -> float:
        """Bytes in and out of the busiest node: it serves a slice of n / S to W - 1 others and is a worker itself."""
        n, S, W = self.num_parameters, self.servers, self.active
        return 2 * BYTES_PER_VALUE * (n / S * (W - 1) + n * (S - 1) / S)


@dataclass(frozen=True)
class StepParts:
    """Seconds of one step. compute_s: mean over workers; waiting_s: what the slowest took beyond that."""

    compute_s: float
    waiting_s: float
    transfer_s: float
    commit_s: float

    @property
    def step_s(self) -> float:
        """The whole step."""
        return self.compute_s + self.waiting_s + self.transfer_s + self.commit_s


@dataclass(frozen=True)
class Measured:
    """A setting and what its step took, medians over many steps."""

    setting: Setting
    parts: StepParts


@dataclass(frozen=True)
class CostModel:
    """The fitted coefficients, in the order of the formulas above, all at least 0."""

    compute: tuple[float, ...]
    transfer: tuple[float, ...]
    commit: tuple[float, ...]
    spread: float

    @property
    def bytes_per_s(self) -> float:
        """The rate of transfers; infinite where no cost of bytes was measured."""
        return 1 / self.transfer[2] if self.transfer[2] > 0 else math.inf

    def predict(self, setting: Setting) -> StepParts:
        """Return the expected parts of a step."""
        compute_s = _dot(self.compute, _compute_terms(setting)) * setting.crowding
        return StepParts(
            compute_s,
            self.spread * compute_s * expected_largest(setting.active),
            _dot(self.transfer, _transfer_terms(setting)),
            _dot(self.commit, _commit_terms(setting)),
        )

    def on_network(self, bits_per_s: float, latency_s: float) -> CostModel:
        """Return the model for given links: with their rate, if it is slower, and with two latencies a step."""
        calls, peers, per_byte = self.transfer
        return replace(self, transfer=(calls + 2 * latency_s, peers, max(per_byte, 8 / bits_per_s)))


def fit_cost_model(measured: Sequence[Measured]) -> CostModel:
    """Return the model with the least relative squared errors; each part of a step is fitted alone."""
    settings = [m.setting for m in measured]
    crowding = np.array([s.crowding for s in settings])
    compute = fit_nonnegative(
        [_compute_terms(s) for s in settings], np.array([m.parts.compute_s for m in measured]) / crowding
    )
    shared = [m for m in measured if m.setting.active > 1]
    transfer = fit_nonnegative([_transfer_terms(s) for s in settings], np.array([m.parts.transfer_s for m in measured]))
    commit = fit_nonnegative([_commit_terms(s) for s in settings], np.array([m.parts.commit_s for m in measured]))
    ratios = [m.parts.waiting_s / m.parts.compute_s / expected_largest(m.setting.active) for m in shared]
    return CostModel(compute, transfer, commit, float(np.median(ratios)) if ratios else 0.0)


def fit_nonnegative(rows: Sequence[Sequence[float]], values: NDArray) -> tuple[float, ...]:
    """Return the coefficients x >= 0 with the least squares of the relative errors (rows x - values) / values.

    Coordinate descent on the normal equations, which converges because the problem is convex.
    """
    weights = 1 / np.maximum(np.asarray(values, float), 1e-9)
    A, y = np.asarray(rows, float) * weights[:, None], np.asarray(values, float) * weights
    scale = np.where((norms := np.linalg.norm(A, axis=0)) > 0, norms, 1.0)
    A = A / scale
    H, g = A.T @ A, A.T @ y
    x = np.zeros(A.shape[1])
    for _ in range(20_000):
        before = x.copy()
        for j in range(len(x)):
            if H[j, j] > 0:
                x[j] = max(0.0, x[j] + (g[j] - H[j] @ x) / H[j, j])
        if np.abs(x - before).max() <= 1e-13 * max(1.0, float(np.abs(x).max())):
            break
    return tuple(float(value) for value in x / scale)


def expected_largest(count: int) -> float:
    """Return the expected largest of `count` standard normal numbers (Blom 1958), 0 for one."""
    return 0.0 if count == 1 else NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def prediction_errors(model: CostModel, measured: Sequence[Measured]) -> list[float]:
    """Return predicted / measured - 1 for the whole step of each."""
    return [model.predict(m.setting).step_s / m.parts.step_s - 1 for m in measured]


def chance_of_slow_step(probability: float, workers: int) -> float:
    """Return how likely at least one of W workers is slow: 1 - (1 - p)^W."""
    return 1 - (1 - probability) ** workers


def harmonic(count: int) -> float:
    """Return H_W = 1 + 1/2 + ... + 1/W: E[max] of W exponential times is mean * H_W."""
    return math.fsum(1 / i for i in range(1, count + 1))


def _dot(coefficients: Sequence[float], terms: Sequence[float]) -> float:
    return math.fsum(c * t for c, t in zip(coefficients, terms, strict=True))


def _compute_terms(s: Setting) -> tuple[float, ...]:
    return 1.0, s.microbatches, s.examples, s.num_parameters * s.examples, s.num_parameters * s.microbatches


def _transfer_terms(s: Setting) -> tuple[float, ...]:
    return 1.0, s.workers - 1, s.busiest_bytes


def _commit_terms(s: Setting) -> tuple[float, ...]:
    return 1.0, s.num_parameters / s.servers, s.num_parameters * s.active / s.servers
