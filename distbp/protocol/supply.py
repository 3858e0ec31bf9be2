"""Where the examples of a worker's microbatches come from: arrays in memory, or data that it reads as it goes.

A worker asks for the examples of a microbatch and never for "the next ones", so what it gets depends on the step and
the microbatch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.nn.streams import epoch_order
from distbp.protocol.examples import Examples, Scaling

EVALUATION_CHUNK = 256
"""Examples per unit of evaluation; fixed, so that a validation loss has the same bits wherever it was computed."""

Batch = tuple[NDArray, ...]
"""Inputs (b, I), targets (b,), (b, T) or (b, O) as the model takes them, then weights (b,) if examples have some."""


class Training(Protocol):
    """The training examples as one worker uses them; its threads share it.

    waited_s: seconds that `take` has waited for data, over all threads.
    """

    @property
    def waited_s(self) -> float:
        """Seconds that `take` has waited for data, over all threads."""
        ...

    def begin(self, step: int, epoch: int, positions: slice, lanes: range, first: int = 0) -> None:
        """Get ready for a step. positions: in the epoch's order, of the batch, or of a replica's part of it.

        lanes: the microbatches that the worker will ask for in this step, the next ones, and of other replicas; counted
        over the whole batch. first: the number of the microbatch with which `positions` begin.
        """
        ...

    def take(self, step: int, microbatch: int) -> Batch:
        """Return the examples of one microbatch of the whole batch, of the step that has begun; there may be none."""
        ...

    def hurry(self) -> None:
        """Let whoever waits for data wait no longer, for good; they get a DataError. Any thread may call this."""
        ...

    def close(self) -> None:
        """End whatever reads, and wait for it."""
        ...


class HeldOut(Protocol):
    """Examples to evaluate on, in chunks of EVALUATION_CHUNK; threads share it."""

    def begin(self, chunks: range) -> None:
        """Get ready for these chunks."""
        ...

    def take(self, chunk: int) -> Batch:
        """Return the examples of one chunk; the last may be short."""
        ...

    def hurry(self) -> None:
        """Let whoever waits for data wait no longer, for good; they get a DataError. Any thread may call this."""
        ...

    def close(self) -> None:
        """End whatever reads, and wait for it."""
        ...


@dataclass(frozen=True)
class Course:
    """How a run goes through data that it does not hold.

    window_blocks: within how many blocks examples are shuffled. num_steps: of the whole run. memory_bytes: of data
    that each worker holds. cache_bytes: of copies of remote data on each node's disk, 0 for none. steps_a_round: that a
    worker takes for one replica before it takes them again for the next one.
    """

    batch_size: int
    microbatch_size: int
    window_blocks: int
    num_steps: int
    memory_bytes: int
    cache_bytes: int
    steps_a_round: int = 1


class Supply(Protocol):
    """Examples that are read where they are used. It is small, and can be sent to another process."""

    def __len__(self) -> int:
        """Return how many examples there are."""
        ...

    def along(self, course: Course) -> Self:
        """Return the same examples for a run of this course."""
        ...

    def count_fewest(self) -> int:
        """Return the number of examples in the smallest microbatch of the run that has any."""
        ...

    def find_extent(self) -> tuple[NDArray, NDArray]:
        """Return the smallest and the largest value of each raw feature, (I,) each."""
        ...

    def describe_shortage(self, num_workers: int) -> str | None:
        """Return what to do where the memory for data is too small for what a worker reads from at a time."""
        ...

    def fingerprint(self) -> str:
        """Return a SHA-256 that other values, or other blocks of them, do not have."""
        ...

    def open_training(self, seed: int, dtype: DTypeLike) -> Training:
        """Return the examples as a worker trains on them."""
        ...

    def open_held_out(self, dtype: DTypeLike) -> HeldOut:
        """Return the examples as a worker evaluates on them."""
        ...

    def measure_targets(self) -> Scaling:
        """Return the map of the targets, (n, O) numbers, to mean 0 and standard deviation 1."""
        ...

    def scale_targets(self, targets: Scaling) -> Self:
        """Return the same examples, whose targets are scaled where they are taken."""
        ...

    def locate_batch(self, step: int, seed: int) -> NDArray[np.int64]:
        """Return the examples of a step's batch, ascending, as numbers into what `hold` gives."""
        ...

    def hold(self) -> Examples:
        """Return all examples in memory. Raises DataError where there is too little of it."""
        ...


class _ArrayTraining:
    waited_s = 0.0

    def __init__(self, examples: Examples, seed: int, microbatch_size: int, dtype: DTypeLike):
        examples.expect_random_access()
        self._examples = examples.ready(dtype)
        self._seed = seed
        self._microbatch_size = microbatch_size
        self._dtype = dtype
        self._order_epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._batch: NDArray[np.int64] = np.empty(0, np.int64)
        self._first = 0

    def begin(self, step: int, epoch: int, positions: slice, lanes: range, first: int = 0) -> None:  # noqa: ARG002 - for others
        """Sort the indices of the batch's examples: a batch is a set."""
        if epoch != self._order_epoch:
            self._order = epoch_order(self._seed, epoch, len(self._examples))
            self._order_epoch = epoch
        self._batch = np.sort(self._order[positions])
        self._first = first

    def take(self, step: int, microbatch: int) -> Batch:  # noqa: ARG002 - it is the one that has begun
        start = (microbatch - self._first) * self._microbatch_size
        return self._examples.take_judged(self._batch[start : start + self._microbatch_size], self._dtype)

    def hurry(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing reads."""


class _ArrayHeldOut:
    def __init__(self, examples: Examples, dtype: DTypeLike):
        self._examples = examples.ready(dtype)
        self._dtype = dtype

    def begin(self, chunks: range) -> None:
        """All is there."""

    def take(self, chunk: int) -> Batch:
        return self._examples.take_judged(slice(chunk * EVALUATION_CHUNK, (chunk + 1) * EVALUATION_CHUNK), self._dtype)

    def hurry(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing reads."""


def open_training(examples: Examples | Supply, seed: int, microbatch_size: int, dtype: DTypeLike) -> Training:
    """Return training examples as a worker uses them."""
    if isinstance(examples, Examples):
        return _ArrayTraining(examples, seed, microbatch_size, dtype)
    return examples.open_training(seed, dtype)


def open_held_out(examples: Examples | Supply, dtype: DTypeLike) -> HeldOut:
    """Return held-out examples as a worker uses them."""
    return _ArrayHeldOut(examples, dtype) if isinstance(examples, Examples) else examples.open_held_out(dtype)


def in_memory(examples: Examples | Supply) -> Examples:
    """Return examples as arrays, read whole if they are not. Raises DataError where there is too little memory."""
    return examples if isinstance(examples, Examples) else examples.hold()
