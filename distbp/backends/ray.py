"""The Ray backend: worker actors and a parameter-server actor; gradients and parameters flow between them only."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from distbp.backends.base import num_evaluation_chunks, summarize
from distbp.backends.ray_actors import MappedFile, Membership, ServerActor, WorkerActor
from distbp.backends.ray_cluster import RayCluster
from distbp.errors import ClusterError, DistbpError, NumericsError
from distbp.nn.numerics import probe
from distbp.protocol.examples import Examples
from distbp.protocol.messages import (
    Evaluation,
    ServerTask,
    Shard,
    Snapshot,
    StepOrder,
    StepReport,
    TrainState,
    WorkerTask,
)
from distbp.protocol.planning import num_microbatches, shards
from distbp.protocol.recovery import GroupLostError

MAX_STEPS_AHEAD = 8
MAX_BYTES_AHEAD = 64 << 20
START_TIMEOUT_S = 120.0
RESCUE_TIMEOUT_S = 30.0

_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, RaySystemError)


@dataclass(frozen=True)
class _Flight:
    """One step under way."""

    order: StepOrder
    results: list[Any]
    report: Any


class RayBackend:
    """Actors on a Ray cluster.

    Steps are submitted ahead as chains of object references, so that a worker starts on the next step as soon as
    the server has its parameters, without waiting for the driver.
    """

    def __init__(self, num_workers: int, num_threads: int, address: str | None, step_timeout_s: float):
        self.num_workers = num_workers
        self._num_threads = num_threads
        self._step_timeout_s = step_timeout_s
        self._cluster = RayCluster(address, num_cpus=max(num_workers * num_threads, 1))
        self._workers: list[ActorHandle] = []
        self._server: ActorHandle | None = None
        self._members: list[Membership] = []
        self._arrays: list[Any] | None = None

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState) -> None:
        """Build the group of actors around `state`."""
        self._end_group()
        self._task = worker
        if self._arrays is None:
            self._arrays = _share(worker.train) + (_share(worker.validation) if worker.validation else [])
        try:
            self._build(_without_arrays(worker), server, state)
        except _LOST as error:
            raise GroupLostError(f"an actor died while starting: {_first_line(error)}") from error
        self._steps_ahead = _steps_ahead(state.parameters, self.num_workers)

    def _build(self, worker: WorkerTask, server: ServerTask, state: TrainState) -> None:
        make_worker = ray.remote(num_cpus=self._num_threads, max_restarts=0)(WorkerActor)
        make_server = ray.remote(num_cpus=0, max_restarts=0)(ServerActor)
        self._server = make_server.remote(server, ray.put(state))
        self._workers = [make_worker.remote(worker, *(self._arrays or [])) for _ in range(self.num_workers)]
        self._members = self._join([self._server, *self._workers])
        self._parameters = self._server.parameters.remote()

    def _join(self, actors: list[ActorHandle]) -> list[Membership]:
        """Wait for every actor and refuse those whose arithmetic differs from this process's."""
        joining = [actor.join.remote() for actor in actors]
        ready, late = ray.wait(joining, num_returns=len(joining), timeout=START_TIMEOUT_S)
        if late:
            raise ClusterError(
                f"only {len(ready)} of {len(joining)} actors started within {START_TIMEOUT_S:.0f} s; "
                f"the run needs {self.num_workers * self._num_threads} CPUs and the cluster has "
                f"{ray.cluster_resources().get('CPU', 0):.0f}; use fewer workers or a larger cluster"
            )
        members = [self._get(reference, START_TIMEOUT_S) for reference in joining]
        for member in members:
            if member.probe != probe():
                raise NumericsError(
                    f"node '{member.node}' computes other floating-point results (probe {member.probe[:12]}) than "
                    f"this one (probe {probe()[:12]}); set the same OPENBLAS_CORETYPE, for example Haswell, and "
                    f"the same NumPy on every node"
                )
        return members

    def run(self, orders: Iterator[StepOrder]) -> Iterator[StepReport]:
        """Carry out the steps, submitting some ahead of the reports."""
        flights: deque[_Flight] = deque()
        for order in orders:
            flights.append(self._submit(order))
            if len(flights) > self._steps_ahead:
                yield self._land(flights.popleft())
        while flights:
            yield self._land(flights.popleft())

    def _submit(self, order: StepOrder) -> _Flight:
        assert self._server is not None  # run comes after start
        count = num_microbatches(order.stop - order.start, self._task.microbatch_size)
        results = [worker.compute.remote(self._parameters, order, shard) for worker, shard in self._with_work(count)]
        report, self._parameters = self._server.commit.options(num_returns=2).remote(order, *results)
        return _Flight(order, results, report)

    def _land(self, flight: _Flight) -> StepReport:
        try:
            report: StepReport = self._get(flight.report, self._step_timeout_s)
            return report
        except GetTimeoutError:
            raise GroupLostError(
                f"step {flight.order.step + 1} was not done within {self._step_timeout_s:g} s; "
                f"waiting for {self._name_late(flight)}"
            ) from None

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        work = self._with_work(num_evaluation_chunks(self._task))
        parts = [worker.evaluate.remote(self._parameters, shard) for worker, shard in work]
        chunks = [sums for part in parts for sums in self._get(part, self._step_timeout_s)]
        return summarize(chunks, self._task.model.is_classification)

    def snapshot(self) -> Snapshot:
        """Return a copy of the server's state."""
        assert self._server is not None  # snapshot comes after start
        found: Snapshot = self._get(self._server.snapshot.remote(), self._step_timeout_s)
        return found

    def rescue(self) -> Snapshot | None:
        """Return the server's state if it still answers."""
        if self._server is None:
            return None
        try:
            found: Snapshot = ray.get(self._server.snapshot.remote(), timeout=RESCUE_TIMEOUT_S)
            return found
        except (*_LOST, RayTaskError, GetTimeoutError):
            return None

    def close(self) -> None:
        """End the actors, and the cluster if it is private."""
        if ray.is_initialized():
            self._end_group()
        self._arrays = None
        self._cluster.close()

    def _end_group(self) -> None:
        for actor in [*self._workers, *([self._server] if self._server is not None else [])]:
            ray.kill(actor)
        self._workers, self._server = [], None

    def _with_work(self, count: int) -> list[tuple[ActorHandle, Shard]]:
        pairs = zip(self._workers, shards(count, self.num_workers), strict=True)
        return [(worker, shard) for worker, shard in pairs if shard.stop > shard.start]

    def _get(self, reference: Any, timeout_s: float) -> Any:
        """Return what `reference` stands for; Ray's exceptions become ours here and nowhere else."""
        try:
            return ray.get(reference, timeout=timeout_s)
        except _LOST as error:
            raise GroupLostError(self._name_lost(error)) from error
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, _LOST):
                raise GroupLostError(self._name_lost(cause)) from error
            if isinstance(cause, DistbpError):
                raise cause from None
            raise DistbpError(f"an actor failed: {type(cause).__name__}: {cause}") from error

    def _name_lost(self, error: Exception) -> str:
        """Return who died: every actor that no longer answers, by role and place."""
        time.sleep(0.05)  # two that were killed together are both reported
        actors = [self._server, *self._workers]
        lost = [self._name(i) for i, actor in enumerate(actors) if actor is not None and not _answers(actor)]
        return f"lost {' and '.join(lost) or 'an actor'}: {_first_line(error)}"

    def _name_late(self, flight: _Flight) -> str:
        _, late = ray.wait(flight.results, num_returns=len(flight.results), timeout=0)
        names = [self._name(i + 1) for i, result in enumerate(flight.results) if result in late]
        return " and ".join(names) or "the server"

    def _name(self, index: int) -> str:
        role = "the server" if index == 0 else f"worker {index - 1}"
        if index >= len(self._members):
            return role
        return f"{role} (node {self._members[index].node}, pid {self._members[index].pid})"


def _answers(actor: ActorHandle) -> bool:
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=1.0)
    except GetTimeoutError:
        return True  # busy or hung, not dead
    except Exception:
        return False
    return True


def _share(examples: Examples) -> list[Any]:
    """Put the arrays into the object store once; every node holds one copy, memory-mapped files none."""
    return [_share_array(array) for array in (examples.x, examples.y, examples.rows)]


def _share_array(array: NDArray) -> Any:
    if isinstance(array, np.memmap) and array.filename is not None:
        return MappedFile(str(array.filename), array.shape)
    return ray.put(array)


def _without_arrays(task: WorkerTask) -> WorkerTask:
    """Return the task with empty arrays, which travel apart."""
    empty = np.empty(0, np.int64)
    train = replace(task.train, x=empty, y=empty, rows=empty)
    validation = None if task.validation is None else replace(task.validation, x=empty, y=empty, rows=empty)
    return replace(task, train=train, validation=validation)


def _steps_ahead(parameters: NDArray, num_workers: int) -> int:
    """Return how many steps may be under way besides the one awaited: few where their arrays are large."""
    return max(0, min(MAX_STEPS_AHEAD, MAX_BYTES_AHEAD // (parameters.nbytes * (num_workers + 1))))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
