"""The local backend: the same Worker and ParameterServer in this process, one thread for each worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from numpy.typing import NDArray

from distbp.backends.base import Note, Process, join_reports, join_snapshots, num_evaluation_chunks, summarize
from distbp.backends.threads import ThreadTeam
from distbp.nn.blas import one_blas_thread
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
    slice_result,
    slice_state,
)
from distbp.protocol.planning import auto_servers, num_local_threads, num_microbatches, server_slices, shards
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Worker

T = TypeVar("T")


class LocalBackend:
    """Workers as threads. Nothing is copied: partials and parameters are passed as they lie in memory.

    Where microbatches are small, one thread does the work of all: threads would wait for the interpreter's lock.
    """

    def __init__(self, num_workers: int, num_threads: int | None = None):
        """num_threads: how many the workers share; None chooses one for each worker, or one for all."""
        self.num_workers = num_workers
        self.can_grow = False
        self.processes: tuple[Process, ...] = ()
        self._num_threads = num_threads
        self._stack = ExitStack()

    def start(
        self,
        worker: WorkerTask,
        server: ServerTask,
        state: TrainState,
        minimum: int = 1,  # noqa: ARG002 - there are always enough threads
    ) -> None:
        """Build workers and servers; BLAS stays pinned to one thread until `close`."""
        self._stack.enter_context(one_blas_thread())
        self._task = worker
        self._num_shards = self._num_threads or num_local_threads(
            len(state.parameters), worker.microbatch_size, self.num_workers
        )
        self._workers = [Worker(worker) for _ in range(self._num_shards)]
        self._parameters = state.parameters.copy()
        self._slices = server_slices(len(state.parameters), _num_servers(server, state, self._num_shards))
        self._servers = [
            ParameterServer(server, slice_state(state, start, stop), start, self._parameters[start:stop])
            for start, stop in self._slices
        ]
        self._crew = ThreadTeam(self._num_shards)
        self._stack.callback(self._crew.close)

    def run(self, orders: Iterator[StepOrder]) -> Iterator[StepReport]:
        """Carry out the steps one after the other; nothing is drawn ahead."""
        for order in orders:
            count = num_microbatches(order.stop - order.start, self._task.microbatch_size)
            yield self._commit(order, self._on_workers(count, partial(_compute, self._parameters, order)))

    def _commit(self, order: StepOrder, results: Sequence[ShardResult]) -> StepReport:
        """Commit on every slice at once."""
        if len(self._servers) == 1:
            return self._servers[0].commit(order, results)
        sliced = [[slice_result(result, *bounds) for result in results] for bounds in self._slices]
        commits = [partial(s.commit, order, part) for s, part in zip(self._servers, sliced, strict=True)]
        return join_reports(self._crew.run(commits))

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        found = self._on_workers(
            num_evaluation_chunks(self._task), lambda w, shard: w.evaluate(self._parameters, shard)
        )
        return summarize([sums for part in found for sums in part], self._task.model.is_classification)

    def snapshot(self) -> Snapshot:
        """Return a copy of the state."""
        found = join_snapshots([server.snapshot() for server in self._servers])
        assert found is not None  # all slices are committed before the next call
        return found

    def take_notes(self) -> list[Note]:
        """Return nothing: nothing happens to threads."""
        return []

    def rescue(self) -> Snapshot | None:
        """Return None: threads are not lost without their process."""
        return None

    def close(self) -> None:
        """End the threads and give BLAS its threads back."""
        self._stack.close()

    def _on_workers(self, count: int, call: Callable[[Worker, Shard], T]) -> list[T]:
        """Return call(worker, shard) for every worker that has a non-empty shard of `count`, in order."""
        parts = shards(count, self._num_shards)
        work = [(w, s) for w, s in zip(self._workers, parts, strict=True) if s.stop > s.start]
        if len(work) == 1:
            return [call(*work[0])]
        return self._crew.run([partial(call, *item) for item in work])


def _num_servers(task: ServerTask, state: TrainState, num_workers: int) -> int:
    """Return into how many slices the commit is divided; clipping needs the norm of the whole, so one."""
    return 1 if task.optimizer.clip_norm is not None else auto_servers(len(state.parameters), num_workers)


def _compute(parameters: NDArray, order: StepOrder, worker: Worker, shard: Shard) -> ShardResult:
    return worker.compute(parameters, order, shard)
