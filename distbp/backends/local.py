"""The local backend: the same Worker and ParameterServer in this process, one thread for each worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from numpy.typing import NDArray

from distbp.backends.base import num_evaluation_chunks, summarize
from distbp.nn.numerics import one_blas_thread
from distbp.protocol.messages import (
    Evaluation,
    ServerTask,
    Shard,
    ShardResult,
    Snapshot,
    StepOrder,
    StepReport,
    TrainState,
    WorkerTask,
)
from distbp.protocol.planning import num_microbatches, shards
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Worker

T = TypeVar("T")


class LocalBackend:
    """Workers as threads. Nothing is copied: partials and parameters are passed as they lie in memory."""

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self._stack = ExitStack()

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState) -> None:
        """Build workers and server; BLAS stays pinned to one thread until `close`."""
        self._stack.enter_context(one_blas_thread())
        self._task = worker
        self._workers = [Worker(worker) for _ in range(self.num_workers)]
        self._server = ParameterServer(server, state)
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self.num_workers, "distbp-worker"))

    def run(self, orders: Iterator[StepOrder]) -> Iterator[StepReport]:
        """Carry out the steps one after the other; nothing is drawn ahead."""
        for order in orders:
            count = num_microbatches(order.stop - order.start, self._task.microbatch_size)
            compute = partial(_compute, self._server.parameters, order)
            yield self._server.commit(order, self._on_workers(count, compute))

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        parameters = self._server.parameters
        found = self._on_workers(num_evaluation_chunks(self._task), lambda w, shard: w.evaluate(parameters, shard))
        return summarize([sums for part in found for sums in part], self._task.model.is_classification)

    def snapshot(self) -> Snapshot:
        """Return a copy of the state."""
        return self._server.snapshot()

    def rescue(self) -> Snapshot | None:
        """Return None: threads are not lost without their process."""
        return None

    def close(self) -> None:
        """End the threads and give BLAS its threads back."""
        self._stack.close()

    def _on_workers(self, count: int, call: Callable[[Worker, Shard], T]) -> list[T]:
        """Return call(worker, shard) for every worker that has a non-empty shard of `count`, in order."""
        work = [(w, s) for w, s in zip(self._workers, shards(count, self.num_workers), strict=True) if s.stop > s.start]
        if len(work) == 1:
            return [call(*work[0])]
        others = [self._pool.submit(call, *item) for item in work[1:]]
        return [call(*work[0]), *(future.result() for future in others)]


def _compute(parameters: NDArray, order: StepOrder, worker: Worker, shard: Shard) -> ShardResult:
    return worker.compute(parameters, order, shard)
