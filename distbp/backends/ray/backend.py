"""The Ray backend, driver's side: actors are placed, linked, ordered to run steps, and watched.

Ray places the actors, tells when they die and carries orders and reports. Gradients and parameters go between
the actors themselves (see member.py); the driver never holds a gradient.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, RayTaskError

from distbp.backends.base import (
    Note,
    Process,
    Shortage,
    join_reports,
    join_snapshots,
    num_evaluation_chunks,
    summarize,
)
from distbp.backends.ray.actors import CONTROL, MappedFile, MemberActor
from distbp.backends.ray.cluster import RayCluster, same_kernels
from distbp.backends.ray.placement import POLL_S, Room
from distbp.backends.ray.pool import GONE, Joined, Pool, first_line
from distbp.backends.ray.private_cluster import check_alive, find_dead
from distbp.errors import DistbpError
from distbp.group.lines import PeerLostError
from distbp.group.roster import Roster, spread
from distbp.nn.numerics import probe
from distbp.protocol.examples import Examples
from distbp.protocol.messages import (
    Effort,
    Evaluation,
    ServerTask,
    Snapshot,
    StepOrder,
    StepReport,
    TrainState,
    WorkerTask,
)
from distbp.protocol.pacing import Pacing
from distbp.protocol.planning import choose_slices, paced_shards
from distbp.protocol.recovery import GroupLostError

START_TIMEOUT_S = 120.0
RESCUE_TIMEOUT_S = 30.0
PATIENCE_S = 5.0
"""Seconds of waiting after which every member is asked whether it still lives."""
CHUNK_S = 0.2
"""Seconds of steps that one order to the actors covers: a call costs a millisecond, a signal should not wait long."""
MAX_CHUNK = 256


@dataclass(frozen=True)
class _Flight:
    """Steps under way: one reference for each member, to its reports and its effort."""

    orders: list[StepOrder]
    results: list[Any]


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
        """num_workers: the most that a group may have."""
        self._max_workers = num_workers
        self._num_threads = num_threads
        self._num_servers = num_servers
        self._step_timeout_s = step_timeout_s
        self._cluster = RayCluster(address, num_cpus=num_workers * num_threads)
        self._room = Room(num_threads)
        self._pool: Pool | None = None
        self._group: list[Joined] = []
        self._roster: Roster | None = None
        self._pacing = Pacing.of_equals(0)
        self._chunk_size = 1

    @property
    def num_workers(self) -> int:
        """How many workers the group has."""
        return len(self._group)

    @property
    def can_grow(self) -> bool:
        """Whether workers have started that are not in the group."""
        if self._pool is None:
            return False
        self._pool.admit()
        return len(self._pool.joined) > len(self._group)

    @property
    def processes(self) -> tuple[Process, ...]:
        """The members' processes by rank."""
        if self._roster is None:
            return ()
        servers = self._roster.num_servers
        return tuple(Process(who.host, who.pid, rank < servers) for rank, who in enumerate(self._roster.members))

    def take_notes(self) -> list[Note]:
        """Return what has happened to the group since the last call."""
        return [] if self._pool is None else self._pool.take_notes()

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState, minimum: int = 1) -> Shortage | None:
        """Build a group of all actors there are, old and new, around `state`."""
        check_alive()
        if self._pool is None:
            self._task = worker
            self._pool = Pool(_maker(worker, self._room), self._max_workers, probe(worker.model))
        self._group, self._roster = [], None
        self._make_room(minimum)
        if not self._pool.gather(minimum, POLL_S):
            return Shortage(len(self._pool.joined), minimum, self._describe_cluster())
        self._form(server, state)
        return None

    def _make_room(self, minimum: int) -> None:
        """Hold room for as many actors as the run cannot do without; further ones come and go as there is place.

        While enough of them live, room that lost a node is kept: Ray makes it whole again when it can.
        """
        assert self._pool is not None
        if self._pool.has_enough(minimum) or self._room.is_whole:
            return
        self._pool.close()
        self._room.hold(minimum)

    def _form(self, server: ServerTask, state: TrainState) -> None:
        """Link up all actors that have joined, spread over the nodes."""
        assert self._pool is not None
        order = spread([member.who.node for member in self._pool.joined])
        self._group = [self._pool.joined[index] for index in order]
        self._pacing = Pacing.of_equals(len(self._group))
        self._chunk_size = 1
        secret = os.urandom(32)
        timeout_s = min(self._step_timeout_s, START_TIMEOUT_S)
        listening = self._ask(self._group, [m.actor.listen.remote(secret) for m in self._group], timeout_s)
        members = [replace(m.who, addresses=found) for m, found in zip(self._group, listening, strict=True)]
        slices = choose_slices(self._num_servers, len(state.parameters), len(self._group))
        self._roster = Roster(tuple(members), slices, secret, self._step_timeout_s)
        shared = ray.put(state)
        calls = [m.actor.connect.remote(rank, self._roster, server, shared) for rank, m in enumerate(self._group)]
        self._ask(self._group, calls, START_TIMEOUT_S, is_busy=True)  # while `state` travels they answer nothing

    def _describe_cluster(self) -> str:
        """Return what the cluster has to offer."""
        there, free = (found.get("CPU", 0) for found in (ray.cluster_resources(), ray.available_resources()))
        each = f"{self._num_threads} CPU{'s' if self._num_threads > 1 else ''}"
        return f"each takes {each}, and {free:g} of the cluster's {there:g} are free"

    def run(self, orders: Iterator[StepOrder]) -> Iterator[StepReport]:
        """Carry out the steps; two chunks of them are under way at a time, so that no actor waits for the driver."""
        flights: deque[_Flight] = deque()
        while True:
            chunk = [] if self.can_grow else list(islice(orders, self._chunk_size))
            if chunk:
                paces = self._pacing.planned
                flights.append(_Flight(chunk, [member.actor.run.remote(chunk, paces) for member in self._group]))
            if not flights:
                return
            if not chunk or len(flights) == 2:
                yield from self._land(flights.popleft())

    def _land(self, flight: _Flight) -> list[StepReport]:
        """Wait for a chunk; while the servers' slices are one step apart in time, their reports become one."""
        began = time.perf_counter()
        timeout_s = 2 * self._step_timeout_s + CHUNK_S  # the members themselves notice silence after one
        found = self._ask(self._group, flight.results, timeout_s)
        self._adapt(len(flight.orders), time.perf_counter() - began)
        self._pace(flight.orders, [effort for _, effort in found])
        by_server = [reports for reports, _ in found if reports]
        return [join_reports(reports) for reports in zip(*by_server, strict=True)]

    def _adapt(self, num_steps: int, seconds: float) -> None:
        """Choose the next chunk's length from how long this one was waited for."""
        wanted = int(num_steps * CHUNK_S / max(seconds, 1e-4))
        self._chunk_size = max(1, min(wanted, 2 * self._chunk_size, MAX_CHUNK))

    def _pace(self, orders: list[StepOrder], efforts: list[Effort]) -> None:
        """Give slow workers less to do; what nobody has tried yet is tried on one step first."""
        before = self._pacing
        count = max(order.num_microbatches for order in orders)
        self._pacing = before.after(efforts).replanned(count)
        if self._pacing.planned == before.planned or self._roster is None or self._pool is None:
            return
        self._chunk_size = 1
        sizes = [len(shard) for shard in paced_shards(count, self._pacing.planned)]
        slowest = max(range(len(sizes)), key=self._pacing.planned.__getitem__)
        ratio = self._pacing.planned[slowest] / min(self._pacing.planned)
        self._pool.note(
            "shards",
            f"{self._roster.name(slowest)} takes {ratio:.1f} times as long as the fastest; "
            f"microbatches of workers 0 to {len(sizes) - 1} are now {', '.join(map(str, sizes))}",
        )

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        parts = paced_shards(num_evaluation_chunks(self._task), self._pacing.planned)
        work = [(member, shard) for member, shard in zip(self._group, parts, strict=True) if shard]
        calls = [member.actor.evaluate.remote(shard) for member, shard in work]
        found = self._ask([member for member, _ in work], calls, self._step_timeout_s)
        return summarize([sums for part in found for sums in part], self._task.model.is_classification)

    def snapshot(self) -> Snapshot:
        """Return a copy of the servers' state."""
        found = join_snapshots(self._ask(self._servers(), self._ask_servers(), self._step_timeout_s))
        if found is None:
            raise self._dissolve("the servers stand at different steps")
        return found

    def rescue(self) -> Snapshot | None:
        """Return the servers' state if all of them still answer and stand at the same step."""
        if self._roster is None or self._pool is None:
            return None
        if any(member not in self._pool.joined for member in self._servers()):
            return None
        try:
            found = ray.get(self._ask_servers(), timeout=RESCUE_TIMEOUT_S)
        except (*GONE, RayTaskError, GetTimeoutError):
            return None
        return join_snapshots(found) if all(found) else None

    def _servers(self) -> list[Joined]:
        assert self._roster is not None  # the group has been started
        return self._group[: self._roster.num_servers]

    def _ask_servers(self) -> list[Any]:
        return [member.actor.snapshot.remote() for member in self._servers()]

    def close(self) -> None:
        """End the actors, and the cluster if it is private."""
        if self._pool is not None and ray.is_initialized() and find_dead() is None:
            self._pool.close()
            self._room.release()
        self._pool = None
        self._cluster.close()

    def _ask(self, members: Sequence[Joined], references: list[Any], timeout_s: float, is_busy: bool = False) -> Any:
        """Return what `references`, a call to each of `members`, stand for. is_busy: they cannot answer meanwhile.

        Ray's exceptions become ours here and nowhere else. After a while of waiting the members are asked whether
        they live: one that hangs is found long before a step may be called late.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            check_alive()
            try:
                return ray.get(references, timeout=min(PATIENCE_S, max(0.0, deadline - time.monotonic())))
            except GetTimeoutError:
                if not is_busy:
                    self._find_silent()
                if time.monotonic() >= deadline:
                    raise self._name_late(members, references, timeout_s) from None
            except GONE as error:
                raise self._dissolve(otherwise=first_line(error)) from error
            except RayTaskError as error:
                raise self._translate(error) from error

    def _find_silent(self) -> None:
        """Raise GroupLostError if a member does not answer."""
        assert self._pool is not None
        silent = self._pool.call_roll("ping", self._group, self._name)
        if silent:
            raise self._dissolve(*silent)

    def _name_late(self, members: Sequence[Joined], references: list[Any], timeout_s: float) -> GroupLostError:
        """Drop the members that have taken too long."""
        assert self._pool is not None
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        late = [member for member, reference in zip(members, references, strict=True) if reference not in ready]
        for member in late:
            self._pool.dismiss(member)
        return self._dissolve(f"no answer within {timeout_s:g} s from {' and '.join(map(self._name, late))}")

    def _translate(self, error: RayTaskError) -> Exception:
        cause = error.cause
        if isinstance(cause, (PeerLostError, *GONE)):
            return self._dissolve(otherwise=first_line(cause))
        if isinstance(cause, DistbpError):
            return cause
        return DistbpError(f"an actor failed{_place(error)}: {type(cause).__name__}: {cause}")

    def _dissolve(self, *reasons: str, otherwise: str = "") -> GroupLostError:
        """Let the members leave the group and drop those that are dead or hang; returns who and why.

        reasons: what is known already. otherwise: what to say where nobody turns out to be lost, such as of a line
        that broke.
        """
        assert self._pool is not None
        check_alive()
        there = [member for member in self._group if member in self._pool.joined]
        lost = [*reasons, *self._pool.call_roll("cut", there, self._name)]
        return GroupLostError(" and ".join(lost) or otherwise, len(self._pool.joined))

    def _name(self, member: Joined) -> str:
        rank = self._group.index(member)
        if self._roster is not None:
            return self._roster.name(rank)
        return f"worker {rank} (node {member.who.host}, pid {member.who.pid})"


def _maker(task: WorkerTask, room: Room) -> Callable[[int], Any]:
    """Return what makes the actor for a slot; the task's arrays are put into the object store once."""
    arrays = _share(task.train) + (_share(task.validation) if task.validation else [])
    bare = _without_arrays(task)
    wrapped = ray.remote(max_restarts=0, concurrency_groups={CONTROL: 1})(MemberActor)
    environment = same_kernels()
    return lambda slot: wrapped.options(**room.options(slot), **environment).remote(bare, *arrays)


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


def _place(error: RayTaskError) -> str:
    """Return where in the code an actor failed, from its traceback; '' if that is not to be seen."""
    places = re.findall(r'File "([^"]+)", line (\d+)', str(error))
    return f" at {places[-1][0]}:{places[-1][1]}" if places else ""
