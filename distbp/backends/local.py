"""The local backend: the same Worker and ParameterServer in this process, one thread for each worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TypeVar

from distbp.backends.base import (
    Abandon,
    Note,
    Process,
    join_reports,
    join_snapshots,
    never,
    num_evaluation_chunks,
    summarize,
)
from distbp.backends.threads import ThreadTeam
from distbp.nn.blas import one_blas_thread
from distbp.protocol.messages import (
    Evaluation,
    ServerTask,
    Shard,
    Snapshot,
    StepOrder,
    StepReport,
    TrainState,
    WorkerTask,
    slice_result,
    slice_state,
)
from distbp.protocol.planning import auto_servers, num_local_threads, server_slices, shards
from distbp.protocol.recovery import RoundAbandonedError
from distbp.protocol.roles import AnyWorker, make_server, make_worker

T = TypeVar("T")


class LocalBackend:
    """Workers as threads. Nothing is copied: partials and parameters are passed as they lie in memory.

    Where microbatches are small, one thread does the work of all: threads would wait for the interpreter's lock.
    """

    processes: tuple[Process, ...] = ()

    def __init__(self, num_workers: int, num_threads: int | None = None):
        """num_threads: how many the workers share; None chooses one for each worker, or one for all."""
        self.num_workers = num_workers
        self._num_threads = num_threads
        self._started: _Group | None = None
        self._stack = ExitStack()

    def start(
        self,
        worker: WorkerTask,
        server: ServerTask,
        state: TrainState,
        minimum: int = 1,  # noqa: ARG002 - there are always enough threads
    ) -> None:
        """Build workers and servers; BLAS and torch stay pinned to one thread until `close`."""
        self._stack.enter_context(one_blas_thread())
        self._stack.enter_context(worker.model.pinned())
        num_threads = self._num_threads or num_local_threads(
            len(state.parameters), worker.microbatch_size, self.num_workers
        )
        self._started = _Group(worker, server, state, num_threads)
        self._stack.callback(self._started.close)

    def admit(self) -> bool:
        """Return False: all threads there are belong to the group."""
        return False

    def departure(self) -> str | None:
        """Return None: a signal tells this process itself."""
        return None

    def run(self, orders: Iterator[StepOrder], abandon: Abandon = never) -> Iterator[StepReport]:
        """Carry out the steps or rounds one after the other; nothing is drawn ahead."""
        self._group.abandon = abandon
        return chain.from_iterable(self._group.step(order).unrolled() for order in orders)

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        return self._group.evaluate()

    def snapshot(self) -> Snapshot:
        """Return a copy of the state."""
        return self._group.snapshot()

    def take_notes(self) -> list[Note]:
        """Return nothing: nothing happens to threads."""
        return []

    def rescue(self) -> Snapshot | None:
        """Return the state before an abandoned round, else None: threads are not lost without their process."""
        return self._started.snapshot() if self._started is not None and self._started.has_abandoned else None

    def close(self) -> None:
        """End the threads and give BLAS its threads back."""
        self._stack.close()

    @property
    def _group(self) -> _Group:
        assert self._started is not None  # `start` comes first
        return self._started


class _Group:
    """Workers and servers around one state, and the threads that they share."""

    def __init__(self, worker: WorkerTask, server: ServerTask, state: TrainState, num_threads: int):
        self._task = worker
        self._workers = [make_worker(worker, check=self._check) for _ in range(num_threads)]
        self.abandon: Abandon = never
        self.has_abandoned = False
        self._parameters = state.parameters.copy()
        self._slices = server_slices(len(state.parameters), _num_servers(server, state, num_threads))
        self._servers = [
            make_server(server, slice_state(state, start, stop), start, self._parameters[start:stop])
            for start, stop in self._slices
        ]
        self.team = ThreadTeam(num_threads)

    def close(self) -> None:
        """End all threads."""
        self.team.close()
        for worker in self._workers:
            worker.close()

    def step(self, order: StepOrder) -> StepReport:
        """Compute on the workers, then commit on every slice at once."""
        results = self._on_workers(order.num_microbatches, lambda w, shard: w.compute(self._parameters, order, shard))
        if len(self._servers) == 1:
            return self._servers[0].commit(order, results)
        sliced = [[slice_result(result, *bounds) for result in results] for bounds in self._slices]
        commits = [partial(s.commit, order, part) for s, part in zip(self._servers, sliced, strict=True)]
        return join_reports(self.team.run(commits))

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

    def _check(self) -> None:
        if self.abandon():
            self.has_abandoned = True
            raise RoundAbandonedError

    def _on_workers(self, count: int, call: Callable[[AnyWorker, Shard], T]) -> list[T]:
        """Return call(worker, shard) for every worker that has a non-empty shard of `count`, in order."""
        parts = shards(count, len(self._workers))
        work = [(w, shard) for w, shard in zip(self._workers, parts, strict=True) if shard]
        if len(work) == 1:
            return [call(*work[0])]
        return self.team.run([partial(call, *item) for item in work])


def _num_servers(task: ServerTask, state: TrainState, num_workers: int) -> int:
    """Return into how many slices the commit is divided; clipping needs the norm of the whole, so one."""
    return 1 if task.optimizer.largest_norm is not None else auto_servers(len(state.parameters), num_workers)
