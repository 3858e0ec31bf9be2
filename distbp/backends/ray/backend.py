"""The Ray backend, driver's side: gets actors for a run, forms them into groups, and lets new ones join."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import ray

from distbp.backends.base import Abandon, Note, Process, Shortage, never
from distbp.backends.ray.cluster import RayCluster
from distbp.backends.ray.group import GroupRules, RayGroup, form_group
from distbp.backends.ray.launch import ActorMaker
from distbp.backends.ray.notices import DrainWatch
from distbp.backends.ray.placement import POLL_S, Reservation
from distbp.backends.ray.pool import ActorPool
from distbp.backends.ray.private_cluster import check_alive, find_dead
from distbp.nn.numerics import probe
from distbp.protocol.messages import Evaluation, ServerTask, Snapshot, StepOrder, StepReport, TrainState, WorkerTask


class RayBackend:
    """Actors on a Ray cluster, each a worker, the first `servers` of them parameter servers as well."""

    def __init__(
        self,
        num_workers: int,
        num_threads: int,
        num_servers: int | Literal["auto"],
        address: str | None,
        step_timeout_s: float,
        min_left: int = 1,
        has_far_spares: bool = False,
    ):
        """num_workers: the most that a group may have. min_left: the fewest to go on with when others are gone.

        has_far_spares: whether a server's state has a second place on another node.
        """
        self._max_workers = num_workers
        self._num_threads = num_threads
        self._num_servers = num_servers
        self._step_timeout_s = step_timeout_s
        self._min_left = min_left
        self._has_far_spares = has_far_spares
        self._cluster = RayCluster(address, num_cpus=num_workers * num_threads)
        self._reservation = Reservation(num_threads)
        self._pool: ActorPool | None = None
        self._group: RayGroup | None = None
        self._num_workers = 0
        self._drains = DrainWatch()

    @property
    def num_workers(self) -> int:
        """How many workers the group has."""
        return self._num_workers

    @property
    def processes(self) -> tuple[Process, ...]:
        """The members' processes by rank."""
        return () if self._group is None else self._group.processes

    def admit(self) -> bool:
        """Let workers in that have started since; returns whether the run should pause between two steps."""
        if self._pool is None:
            return False
        self._pool.admit()
        self._pool.heed(self._drains.departures())
        is_larger = len(self._pool.joined) > self._num_workers
        return is_larger or self._pool.should_part or self.departure() is not None

    def departure(self) -> str | None:
        """Return why this process, the driver's, will be gone soon."""
        node = ray.get_runtime_context().get_node_id()
        departure = self._drains.departures().get(node)
        return None if departure is None else f"the driver has to leave this machine: {departure}"

    def take_notes(self) -> list[Note]:
        """Return what has happened to the group since the last call."""
        return [] if self._pool is None else self._pool.take_notes()

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState, minimum: int = 1) -> Shortage | None:
        """Build a group of all actors there are, old and new, around `state`."""
        check_alive()
        if self._pool is None:
            make = ActorMaker(worker, self._reservation).make
            self._pool = ActorPool(make, self._max_workers, probe(worker.model), self._min_left)
        self._group, self._num_workers = None, 0
        if self._pool.part() and self._pool.joined and not self._pool.sits_in(self._reservation.num_actors):
            self._reservation.release()  # all have moved: Ray would look for another node to make it whole
        self._reserve(self._pool, minimum)
        if not self._pool.gather(minimum, POLL_S):
            return Shortage(len(self._pool.joined), minimum, self._describe_cluster())
        self._num_workers = len(self._pool.joined)
        rules = GroupRules(self._num_servers, self._step_timeout_s, self._has_far_spares)
        self._group = form_group(self._pool, worker, server, state, rules)
        return None

    def _reserve(self, pool: ActorPool, minimum: int) -> None:
        """Hold room for as many actors as the run cannot do without; further ones come and go as there is place.

        While enough of them live, room that lost a node is kept: Ray makes it whole again when it can.
        """
        if pool.has_enough(minimum) or self._reservation.is_whole:
            return
        pool.close()
        self._reservation.hold(minimum)

    def _describe_cluster(self) -> str:
        """Return what the cluster has to offer."""
        there, free = (found.get("CPU", 0) for found in (ray.cluster_resources(), ray.available_resources()))
        each = f"{self._num_threads} CPU{'s' if self._num_threads > 1 else ''}"
        return f"each takes {each}, and {free:g} of the cluster's {there:g} are free"

    def run(self, orders: Iterator[StepOrder], abandon: Abandon = never) -> Iterator[StepReport]:
        """Carry out the steps; ends early when the run should pause."""
        return self._formed.run(orders, self.admit, abandon)

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        return self._formed.evaluate()

    def snapshot(self) -> Snapshot:
        """Return a copy of the servers' state."""
        return self._formed.snapshot()

    def rescue(self) -> Snapshot | None:
        """Return the servers' state if all of them still answer and stand at the same step."""
        return None if self._group is None else self._group.rescue()

    def close(self) -> None:
        """End the actors, and the cluster if it is private."""
        if self._pool is not None and ray.is_initialized() and find_dead() is None:
            self._pool.close()
            self._reservation.release()
        self._pool = None
        self._cluster.close()

    @property
    def _formed(self) -> RayGroup:
        assert self._group is not None  # `start` comes first
        return self._group
