"""The worker in rounds: it trains logical replicas from the same parameters and hands in where they end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distbp.nn import tree
from distbp.nn.blas import fixed_arithmetic
from distbp.nn.model import Sums
from distbp.nn.optimizers import MOMENTS
from distbp.nn.outer import add_to_mean, share_of
from distbp.protocol.messages import (
    InnerStep,
    Partial,
    RoundsTask,
    Shard,
    ShardResult,
    StepOrder,
    TrainState,
    WorkerTask,
)
from distbp.protocol.rounds import replica_lanes, replica_order
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Allocate, Worker


def go_on() -> None:
    """Stand for a check that never ends a round."""


class RoundWorker:
    """Computes the rounds of one shard of the replicas, one replica after the other.

    A replica's round is a pure function of (parameters, order, replica): its optimizer begins anew in every round. So
    replicas have no state, and one that was lost with its worker is computed again anywhere.
    """

    def __init__(self, task: WorkerTask, allocate: Allocate | None = None, check: Callable[[], None] = go_on):
        """allocate: gives memory for parameters, (num_parameters,). check: is called before each step of a replica.

        What `check` raises ends the round.
        """
        assert task.rounds is not None  # else there is no need of this
        self._rounds: RoundsTask = task.rounds
        self._microbatch_size = task.microbatch_size
        self._worker = Worker(task)
        self._allocate = allocate
        self._check = check
        self._all: list[NDArray] = []
        self._free: list[NDArray] = []

    @fixed_arithmetic()
    def compute(self, parameters: NDArray, order: StepOrder, shard: Shard) -> ShardResult:
        """Return the partials of every whole subtree of replicas; their arrays are valid until the next call."""
        began = time.perf_counter()
        self._free = [*reversed(self._all)]
        train = partial(self._train, parameters, order, shard)
        nodes = tree.cover(shard.start, shard.stop, shard.num_microbatches)
        partials = tuple(tree.reduce_leaves(start, stop, train, self._join) for start, stop in nodes)
        data_s = sum(step.data_s for found in partials for step in found.steps)
        return ShardResult(partials, max(0.0, time.perf_counter() - began - data_s), data_s)

    def hurry(self) -> None:
        """Wait no longer for data, for good: what waits raises DataError. Any thread may call this."""
        self._worker.hurry()

    def close(self) -> None:
        """End what reads ahead; the worker is of no use afterwards."""
        self._worker.close()

    def evaluate(self, parameters: NDArray, shard: Shard) -> list[Sums]:
        """Return the sums over each evaluation chunk of the validation examples in `shard`, in order."""
        return self._worker.evaluate(parameters, shard)

    def _train(self, parameters: NDArray, order: StepOrder, shard: Shard, number: int) -> Partial:
        """Return what one replica of the shard makes of the parameters in a round."""
        replica = _Replica(self._worker, self._rounds, parameters, self._take(parameters))
        steps = []
        for step in order.steps:
            self._check()
            part = replica_order(step, number, order.num_microbatches, self._microbatch_size)
            steps.append(replica.step(part, replica_lanes(step, shard)))
        loss, num_examples = sum(step.loss for step in steps), sum(step.num_examples for step in steps)
        return Partial(number, number + 1, replica.parameters, loss, num_examples, tuple(steps))

    def _join(self, left: Partial, right: Partial) -> Partial:
        add_to_mean(left.gradient, right.gradient, share_of(left.num_examples, right.num_examples))
        self._free.append(right.gradient)
        return left.joined(right)

    def _take(self, parameters: NDArray) -> NDArray:
        """Return memory for a replica's parameters."""
        if not self._free:
            self._free.append(np.empty_like(parameters) if self._allocate is None else self._allocate())
            self._all.append(self._free[-1])
        return self._free.pop()


class _Replica:
    """One replica in one round: a worker and a parameter server of its own, standing at the round's parameters."""

    def __init__(self, worker: Worker, task: RoundsTask, parameters: NDArray, memory: NDArray):
        moments = tuple(np.zeros_like(parameters) for _ in MOMENTS[task.server.optimizer.kind])
        self._worker = worker
        self._server = ParameterServer(task.server, TrainState(0, parameters, moments), memory=memory)
        self._num_steps = 0
        self._has_diverged = False
        self._checksum = "0" * 16
        self.parameters = memory

    def step(self, order: StepOrder | None, lanes: range) -> InnerStep:
        """Take one step on the replica's part of a batch; None: it has none, and stays where it is.

        lanes: the microbatches of all replicas that the worker computes in this round.
        """
        if self._has_diverged:
            return InnerStep(math.nan, 1, 0.0, (self._checksum,))
        if order is None:
            return InnerStep(0.0, 0, 0.0, (self._checksum,))
        began = time.perf_counter()
        whole = Shard(0, order.num_microbatches, order.num_microbatches)
        result = self._worker.compute(self.parameters, order, whole, lanes)
        loss, num_examples = result.partials[0].loss, result.partials[0].num_examples
        if num_examples > 0:
            self._commit(order, result)
        seconds = time.perf_counter() - began
        return InnerStep(loss, num_examples, max(0.0, seconds - result.data_s), (self._checksum,), result.data_s)

    def _commit(self, order: StepOrder, result: ShardResult) -> None:
        report = self._server.commit(replace(order, step=self._num_steps), [result])
        self._has_diverged = not report.committed
        if report.committed:
            self._num_steps += 1
            self._checksum = report.checksum
