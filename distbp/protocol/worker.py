"""The worker: computes partials on its shard of every batch, of examples that a supply gives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distbp.nn import tree
from distbp.nn.blas import compute_exactly
from distbp.nn.layout import Layout
from distbp.nn.model import Sums, Views
from distbp.nn.streams import Purpose, Streams
from distbp.protocol.messages import Partial, Shard, ShardResult, StepOrder, WorkerTask
from distbp.protocol.planning import split
from distbp.protocol.supply import HeldOut, Training, open_held_out, open_training

T = TypeVar("T")
Allocate = Callable[[], NDArray]


class Worker:
    """Computes gradients for one shard at a time, in `num_threads` threads.

    `compute` is a pure function of (parameters, order, shard): a lost worker loses only time.
    """

    def __init__(self, task: WorkerTask, allocate: Allocate | None = None):
        """Build the models. allocate: gives memory for a gradient, (num_parameters,); None for ordinary memory."""
        dtype = np.dtype(task.model.dtype)
        self._train = open_training(task.train, task.seed, task.microbatch_size, dtype)
        self._validation = None if task.validation is None else open_held_out(task.validation, dtype)
        self._threads = [_Thread(task, self._train, self._validation, allocate) for _ in range(task.num_threads)]
        self._pool = ThreadPoolExecutor(task.num_threads) if task.num_threads > 1 else None

    def compute(self, parameters: NDArray, order: StepOrder, shard: Shard, lanes: range | None = None) -> ShardResult:
        """Return the partials of every whole subtree inside `shard`; their arrays are valid until the next call.

        lanes: the microbatches, of the whole batch, whose examples to get ready; None: those of the shard.
        """
        began, waited_s = time.perf_counter(), self._train.waited_s
        first = order.first_microbatch
        own = range(first + shard.start, first + shard.stop)
        self._train.begin(order.step, order.epoch, slice(order.start, order.stop), lanes or own, first)
        found = self._map(lambda thread, piece: thread.compute(parameters, order, piece), shard)
        partials = [partial for piece in found for partial in piece]
        if len(found) > 1:
            partials = _merge_threads(partials, shard)
        seconds, data_s = time.perf_counter() - began, (self._train.waited_s - waited_s) / len(found)
        return ShardResult(tuple(partials), max(0.0, seconds - data_s), data_s)

    def evaluate(self, parameters: NDArray, shard: Shard) -> list[Sums]:
        """Return the sums over each evaluation chunk of the validation examples in `shard`, in order."""
        assert self._validation is not None  # the driver asks only when there is validation data
        self._validation.begin(range(shard.start, shard.stop))
        found = self._map(lambda thread, piece: thread.evaluate(parameters, piece), shard)
        return [sums for piece in found for sums in piece]

    def hurry(self) -> None:
        """Wait no longer for data, for good: what waits raises DataError. Any thread may call this."""
        self._train.hurry()
        if self._validation is not None:
            self._validation.hurry()

    def close(self) -> None:
        """End what reads ahead; the worker is of no use afterwards."""
        self._train.close()
        if self._validation is not None:
            self._validation.close()
        if self._pool is not None:
            self._pool.shutdown()

    def _map(self, call: Callable[[_Thread, Shard], list[T]], shard: Shard) -> list[list[T]]:
        """Return call(thread, piece) for every thread that has a piece of `shard`, in order; a lone one has it all."""
        if self._pool is None:
            return [call(self._threads[0], shard)]
        return list(self._pool.map(call, self._threads, split(shard, len(self._threads))))


class _Thread:
    """One thread's model and gradient buffers."""

    def __init__(self, task: WorkerTask, train: Training, validation: HeldOut | None, allocate: Allocate | None):
        self._model = task.model.build()
        self._dtype = np.dtype(task.model.dtype)
        self._buffers = _Buffers(self._model.layout, allocate or self._allocate)
        self._train = train
        self._validation = validation
        self._streams = Streams(task.seed, Purpose.DROPOUT)

    def compute(self, parameters: NDArray, order: StepOrder, shard: Shard) -> list[Partial]:
        """Return one partial for each whole subtree inside `shard`; divergence shows in the loss."""
        views = self._model.layout.views(parameters)
        return compute_exactly(lambda: self._reduce(partial(self._backprop, views, order), shard))

    def _reduce(self, leaf: Callable[[int], Partial], shard: Shard) -> list[Partial]:
        self._buffers.reclaim()
        return [
            tree.reduce_leaves(start, stop, leaf, self._add)
            for start, stop in tree.cover(shard.start, shard.stop, shard.num_microbatches)
        ]

    def _backprop(self, views: Views, order: StepOrder, microbatch: int) -> Partial:
        """Return the gradient sum of one microbatch, which may be empty in the last step of an epoch."""
        number = order.first_microbatch + microbatch
        x, y, *weights = self._train.take(order.step, number)
        flat, gradient = self._buffers.take()
        if not len(x):
            flat.fill(0)
            return Partial(microbatch, microbatch + 1, flat, 0.0, 0, weight=0.0 if weights else None)
        rng = self._streams.at(order.step, number)
        sums = self._model.gradient_sums(views, x, y, gradient, rng, *weights)
        return Partial(microbatch, microbatch + 1, flat, sums.loss, sums.num_examples, weight=sums.weight)

    def _add(self, left: Partial, right: Partial) -> Partial:
        added = add_partials(left, right)
        self._buffers.give_back(right.gradient)
        return added

    def evaluate(self, parameters: NDArray, shard: Shard) -> list[Sums]:
        """Return the sums over each evaluation chunk in `shard`."""
        assert self._validation is not None  # the driver asks only when there is validation data
        views = self._model.layout.views(parameters)
        found = []
        for chunk in range(shard.start, shard.stop):
            found.append(compute_exactly(partial(self._model.loss_sums, views, *self._validation.take(chunk))))
        return found

    def _allocate(self) -> NDArray:
        return np.empty(self._model.layout.num_parameters, self._dtype)


class _Buffers:
    """Memory for the gradients that a thread holds at a time; what is given back is used again."""

    def __init__(self, layout: Layout, allocate: Allocate):
        self._layout = layout
        self._allocate = allocate
        self._all: dict[int, tuple[NDArray, Views]] = {}
        self._free: list[tuple[NDArray, Views]] = []

    def take(self) -> tuple[NDArray, Views]:
        """Return a gradient to write into, (num_parameters,), and its views by name."""
        if not self._free:
            flat = self._allocate()
            self._all[id(flat)] = flat, self._layout.views(flat)
            return self._all[id(flat)]
        return self._free.pop()

    def give_back(self, flat: NDArray) -> None:
        """Let a gradient that `take` returned be used again."""
        self._free.append(self._all[id(flat)])

    def reclaim(self) -> None:
        """Take all gradients back, also those that went out with the partials of the last call."""
        self._free = [*reversed(self._all.values())]


def add_partials(left: Partial, right: Partial) -> Partial:
    """Return the partial over both subtrees, written into the left one's gradient."""
    np.add(left.gradient, right.gradient, out=left.gradient)
    return left.joined(right)


def _merge_threads(partials: Sequence[Partial], shard: Shard) -> list[Partial]:
    """Return the partials of a shard's whole subtrees from those that its threads computed."""
    merged = []
    for start, stop in tree.cover(shard.start, shard.stop, shard.num_microbatches):
        inside = [partial for partial in partials if start <= partial.start < stop]
        additions = tree.merge_order(tuple((p.start, p.stop) for p in inside), (start, stop))
        merged.append(tree.merge(inside, additions, add_partials))
    return merged
