"""From a fitted cost model and a fitted hyperbola to clusters that nobody has measured: prediction. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from distbp.lab.cost_model import CostModel, Setting, chance_of_slow_step, harmonic
from distbp.lab.hyperbola import Hyperbola
from distbp.nn.digests import BLOCK

Servers = Literal["1", "10", "100", "each"]
SERVER_CHOICES: tuple[Servers, ...] = ("1", "10", "100", "each")
WORKER_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1000, 2000, 4000, 7000, 10000)
BANDWIDTHS = (1e9, 10e9, 100e9)
LATENCY_S = 50e-6
KNEE_EFFICIENCY = 0.5
LARGE_MODEL = 100_000_000


@dataclass(frozen=True)
class Prediction:
    """A cluster whose workers and servers have a core each like this machine's, at its best batch size."""

    bits_per_s: float
    server_choice: Servers
    workers: int
    servers: int
    batch_size: int
    step_s: float
    seconds: float

    @property
    def worker_seconds(self) -> float:
        """What it costs: every worker is paid for all the time."""
        return self.workers * self.seconds


@dataclass(frozen=True)
class StepPrediction:
    """Steps per second of a model of `num_parameters`, each worker computing `examples` in a step."""

    num_parameters: int
    bits_per_s: float
    workers: int
    servers: int
    examples: int
    steps_per_s: float


@dataclass(frozen=True)
class Straggling:
    """What one slow worker in a hundred costs W workers. slowdown: of a step, if slow means ten times as long."""

    workers: int
    chance: float
    slowdown: float
    harmonic: float


def count_servers(choice: Servers, workers: int, num_parameters: int) -> int:
    """Return how many servers that is: at most one a worker, and each holds whole blocks of the vector."""
    wanted = workers if choice == "each" else int(choice)
    return max(1, min(wanted, workers, -(-num_parameters // BLOCK)))


def predict_targets(
    model: CostModel, curve: Hyperbola, num_parameters: int, microbatch_size: int, num_examples: int
) -> list[Prediction]:
    """Return the time to the goal for every bandwidth, choice of servers and number of workers."""
    return [
        _best(model, curve, rate, choice, Setting(W, 1, num_parameters, 1, microbatch_size), num_examples)
        for rate in BANDWIDTHS
        for choice in SERVER_CHOICES
        for W in WORKER_COUNTS
    ]


def _best(
    model: CostModel, curve: Hyperbola, rate: float, choice: Servers, bare: Setting, num_examples: int
) -> Prediction:
    """Return the prediction at the batch size with the least time to the goal."""
    servers = count_servers(choice, bare.workers, bare.num_parameters)
    linked = model.on_network(rate, LATENCY_S) if bare.workers > 1 else model
    found = []
    for batch_size in _batch_sizes(bare.microbatch_size, num_examples):
        step_s = linked.predict(replace(bare, servers=servers, batch_size=batch_size)).step_s
        seconds = curve.steps(batch_size) * step_s
        found.append(Prediction(rate, choice, bare.workers, servers, batch_size, step_s, seconds))
    return min(found, key=lambda prediction: prediction.seconds)


def _batch_sizes(microbatch_size: int, num_examples: int) -> list[int]:
    """Return the batch sizes to choose from: below one microbatch too, then doubling."""
    sizes = [size for size in (2**power for power in range(64)) if size <= num_examples]
    return sorted({*(size for size in sizes if size < microbatch_size), *(
        microbatch_size * size for size in sizes if microbatch_size * size <= num_examples
    )})  # fmt: skip


def find_knee(predictions: Sequence[Prediction]) -> Prediction:
    """Return the most workers that still do half of what they could: T(1) / (W T(W)) at least 0.5."""
    alone = next(p for p in predictions if p.workers == 1)
    good = [p for p in predictions if alone.seconds / (p.workers * p.seconds) >= KNEE_EFFICIENCY]
    return max(good, key=lambda prediction: prediction.workers)


def predict_large_steps(model: CostModel, microbatch_size: int) -> list[StepPrediction]:
    """Return steps per second of a large model for some workers, servers and bandwidths."""
    found = []
    for rate in BANDWIDTHS:
        linked = model.on_network(rate, LATENCY_S)
        for workers in (10, 100, 1000, 10000):
            for servers in sorted({count_servers(choice, workers, LARGE_MODEL) for choice in SERVER_CHOICES}):
                setting = Setting(workers, servers, LARGE_MODEL, workers * microbatch_size, microbatch_size)
                speed = 1 / linked.predict(setting).step_s
                found.append(StepPrediction(LARGE_MODEL, rate, workers, servers, microbatch_size, speed))
    return found


def predict_straggling(probability: float = 0.01, slowness: float = 10.0) -> list[Straggling]:
    """Return how often a step has a slow worker, and how much longer steps take on average."""
    counts = (1, 10, 100, 1000, 10000)
    chances = [chance_of_slow_step(probability, count) for count in counts]
    return [
        Straggling(count, chance, 1 + (slowness - 1) * chance, harmonic(count))
        for count, chance in zip(counts, chances, strict=True)
    ]
