"""The Ray backend, driver's side: actors are placed, linked, ordered to run steps, and watched.

Ray places the actors, tells when they die and carries orders and reports. Gradients and parameters go between
the actors themselves (see member.py); the driver never holds a gradient.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from distbp.backends.base import join_reports, join_snapshots, num_evaluation_chunks, summarize
from distbp.backends.member import PeerLostError
from distbp.backends.ray_actors import MappedFile, MemberActor
from distbp.backends.ray_cluster import RayCluster
from distbp.backends.ray_placement import POLL_S, Room
from distbp.backends.roster import Membership, Roster, spread
from distbp.errors import ClusterError, DistbpError, NumericsError
from distbp.nn.numerics import probe
from distbp.protocol.examples import Examples
from distbp.protocol.messages import Evaluation, ServerTask, Snapshot, StepOrder, StepReport, TrainState, WorkerTask
from distbp.protocol.planning import choose_slices, shards
from distbp.protocol.recovery import GroupLostError

START_TIMEOUT_S = 120.0
RESCUE_TIMEOUT_S = 30.0
CHUNK_S = 0.2
"""Seconds of steps that one order to the actors covers: a call costs a millisecond, a signal should not wait long."""
MAX_CHUNK = 256

_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, RaySystemError)

Actor = Any  # ray's own types do not follow classes that are wrapped late


@dataclass(frozen=True)
class _Flight:
    """Steps under way: one reference for each actor, to the reports of its server."""

    orders: list[StepOrder]
    reports: list[Any]


class RayBackend:
    """Actors on a Ray cluster, each a worker, the first `servers` of them parameter servers as well."""

    def __init__(
        self,
        num_workers: int,
        num_threads: int,
        num_servers: int | Literal["auto"],
        address: str | None,
        step_timeout_s: float,
    ):
        self.num_workers = num_workers
        self._num_servers = num_servers
        self._step_timeout_s = step_timeout_s
        self._cluster = RayCluster(address, num_cpus=num_workers * num_threads)
        self._room = Room(num_threads)
        self._actors: list[Actor] = []
        self._roster: Roster | None = None
        self._arrays: list[Any] | None = None
        self._chunk_size = 1

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState) -> None:
        """Build the group of actors around `state`."""
        self._end_group()
        self._task = worker
        self._chunk_size = 1
        if self._arrays is None:
            self._arrays = _share(worker.train) + (_share(worker.validation) if worker.validation else [])
        self._room.hold(self.num_workers)
        make = ray.remote(max_restarts=0)(MemberActor)
        bare = _without_arrays(worker)
        places = [self._room.options(index) for index in range(self.num_workers)]
        self._actors = [make.options(**place).remote(bare, *self._arrays) for place in places]
        secret = os.urandom(32)
        members = self._join(secret)
        order = spread([member.node for member in members])
        self._actors = [self._actors[index] for index in order]
        slices = choose_slices(self._num_servers, len(state.parameters), self.num_workers)
        self._roster = Roster(tuple(members[index] for index in order), slices, secret, self._step_timeout_s)
        shared = ray.put(state)
        connecting = [a.connect.remote(rank, self._roster, server, shared) for rank, a in enumerate(self._actors)]
        self._get(connecting, START_TIMEOUT_S)

    def _join(self, secret: bytes) -> list[Membership]:
        """Wait for every actor and refuse those whose arithmetic differs from this process's."""
        joining = [actor.join.remote(secret) for actor in self._actors]
        self._await_start(joining)
        members: list[Membership] = self._get(joining, START_TIMEOUT_S)
        for member in members:
            if member.probe != probe():
                raise NumericsError(
                    f"node '{member.host}' computes other floating-point results (probe {member.probe[:12]}) than "
                    f"this one (probe {probe()[:12]}); set the same OPENBLAS_CORETYPE, for example Haswell, and "
                    f"the same NumPy on every node"
                )
        return members

    def _await_start(self, joining: list[Any]) -> None:
        """Wait for every actor; GroupLostError if a node is lost meanwhile, for then they would wait for a place."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while late := ray.wait(joining, num_returns=len(joining), timeout=POLL_S)[1]:
            if not self._room.is_whole:
                raise GroupLostError("lost a node while the actors were starting")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"only {len(joining) - len(late)} of {len(joining)} actors started within {START_TIMEOUT_S:.0f} s; "
                    "look into Ray's logs on the nodes (/tmp/ray/session_latest/logs) for why"
                )

    def run(self, orders: Iterator[StepOrder]) -> Iterator[StepReport]:
        """Carry out the steps; two chunks of them are under way at a time, so that no actor waits for the driver."""
        flights: deque[_Flight] = deque()
        while True:
            chunk = list(islice(orders, self._chunk_size))
            if chunk:
                flights.append(_Flight(chunk, [actor.run.remote(chunk) for actor in self._actors]))
            if not flights:
                return
            if not chunk or len(flights) == 2:
                yield from self._land(flights.popleft())

    def _land(self, flight: _Flight) -> list[StepReport]:
        """Wait for a chunk; while the servers' slices are one step apart in time, their reports become one."""
        began = time.perf_counter()
        by_member = self._get(flight.reports, 2 * self._step_timeout_s + CHUNK_S)  # peers notice silence after one
        self._adapt(len(flight.orders), time.perf_counter() - began)
        return [join_reports(reports) for reports in zip(*(found for found in by_member if found), strict=True)]

    def _adapt(self, num_steps: int, seconds: float) -> None:
        """Choose the next chunk's length from how long this one was waited for."""
        wanted = int(num_steps * CHUNK_S / max(seconds, 1e-4))
        self._chunk_size = max(1, min(wanted, 2 * self._chunk_size, MAX_CHUNK))

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        parts = shards(num_evaluation_chunks(self._task), self.num_workers)
        work = [(actor, shard) for actor, shard in zip(self._actors, parts, strict=True) if shard.stop > shard.start]
        found = self._get([actor.evaluate.remote(shard) for actor, shard in work], self._step_timeout_s)
        return summarize([sums for part in found for sums in part], self._task.model.is_classification)

    def snapshot(self) -> Snapshot:
        """Return a copy of the servers' state."""
        found = join_snapshots(self._get(self._ask_servers(), self._step_timeout_s))
        if found is None:
            raise GroupLostError("the servers stand at different steps")
        return found

    def rescue(self) -> Snapshot | None:
        """Return the servers' state if all of them still answer and stand at the same step."""
        if self._roster is None:
            return None
        try:
            return join_snapshots(ray.get(self._ask_servers(), timeout=RESCUE_TIMEOUT_S))
        except (*_LOST, RayTaskError, GetTimeoutError):
            return None

    def _ask_servers(self) -> list[Any]:
        assert self._roster is not None  # the group has been started
        return [actor.snapshot.remote() for actor in self._actors[: self._roster.num_servers]]

    def close(self) -> None:
        """End the actors, and the cluster if it is private."""
        if ray.is_initialized():
            self._end_group()
            self._room.release()
        self._arrays = None
        self._cluster.close()

    def _end_group(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._roster = [], None

    def _get(self, references: list[Any], timeout_s: float) -> Any:
        """Return what `references` stand for; Ray's exceptions become ours here and nowhere else."""
        try:
            return ray.get(references, timeout=timeout_s)
        except GetTimeoutError:
            _, late = ray.wait(references, num_returns=len(references), timeout=0)
            names = [self._name(rank) for rank, reference in enumerate(references) if reference in late]
            raise GroupLostError(f"no answer within {timeout_s:g} s from {' and '.join(names)}") from None
        except _LOST as error:
            raise GroupLostError(self._name_lost(error)) from error
        except RayTaskError as error:
            raise self._translate(error) from error

    def _translate(self, error: RayTaskError) -> Exception:
        cause = error.cause
        if isinstance(cause, (PeerLostError, *_LOST)):
            return GroupLostError(self._name_lost(cause))
        if isinstance(cause, DistbpError):
            return cause
        return DistbpError(f"an actor failed{_place(error)}: {type(cause).__name__}: {cause}")

    def _name_lost(self, error: Exception) -> str:
        """Return who died: every actor that no longer answers, by role and place."""
        time.sleep(0.05)  # two that were killed together are both reported
        pings = [actor.__ray_ready__.remote() for actor in self._actors]
        answered, _ = ray.wait(pings, num_returns=len(pings), timeout=1.0)  # the others are busy or hung, not dead
        lost = [self._name(rank) for rank, ping in enumerate(pings) if ping in answered and _has_failed(ping)]
        return f"lost {' and '.join(lost)}" if lost else _first_line(error)

    def _name(self, rank: int) -> str:
        return self._roster.name(rank) if self._roster is not None else f"worker {rank}"


def _has_failed(answered: Any) -> bool:
    try:
        ray.get(answered)
    except Exception:
        return True
    return False


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _place(error: RayTaskError) -> str:
    """Return where in the code an actor failed, from its traceback; '' if that is not to be seen."""
    places = re.findall(r'File "([^"]+)", line (\d+)', str(error))
    return f" at {places[-1][0]}:{places[-1][1]}" if places else ""
