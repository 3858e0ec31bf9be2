"""A group of actors on Ray: formed around a state, then ordered to run steps.

Ray carries orders and reports. Gradients and parameters go between the actors themselves (distbp.group.member); the
driver never holds a gradient.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from distbp.backends.base import (
    Abandon,
    Process,
    join_reports,
    join_snapshots,
    never,
    num_evaluation_chunks,
    summarize,
)
from distbp.backends.ray.calls import Calls
from distbp.backends.ray.notices import Departure
from distbp.backends.ray.pool import GONE, ActorPool, Joined
from distbp.group.roster import Roster, spread
from distbp.group.spare import Offer, align_reports, choose_step
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

START_TIMEOUT_S = 120.0
RESCUE_TIMEOUT_S = 30.0
CHUNK_S = 0.2
"""Seconds of steps that one order to the actors covers: a call costs a millisecond, a signal should not wait long."""
MAX_CHUNK = 256


@dataclass(frozen=True)
class _Flight:
    """Steps under way: one reference for each member, to its reports and its effort."""

    orders: list[StepOrder]
    results: list[Any]


@dataclass(frozen=True)
class GroupRules:
    """How a group is to be made. has_far_spares: whether a server's state has a second place on another node."""

    num_servers: int | Literal["auto"]
    step_timeout_s: float
    has_far_spares: bool = False


def form_group(
    pool: ActorPool, worker: WorkerTask, server: ServerTask, state: TrainState, rules: GroupRules
) -> RayGroup:
    """Return all actors that have joined `pool`, spread over the nodes and linked up around `state`.

    Raises GroupLostError if one of them is lost meanwhile.
    """
    members = [pool.joined[index] for index in spread([member.who.node for member in pool.joined])]
    secret = os.urandom(32)
    rules = _fit_to_rounds(rules, worker)
    timeout_s = min(rules.step_timeout_s, START_TIMEOUT_S)
    has_far = len({member.who.node for member in members}) > 1
    listening = Calls(pool, members).ask(members, [m.actor.listen.remote(secret, has_far) for m in members], timeout_s)
    who = tuple(replace(m.who, addresses=found) for m, found in zip(members, listening, strict=True))
    slices = choose_slices(rules.num_servers, len(state.parameters), len(members))
    roster = Roster(who, slices, secret, rules.step_timeout_s, rules.has_far_spares)
    shared, known = ray.put(state), ray.put(roster)  # once for all: a roster is as long as there are members
    calls = [m.actor.connect.remote(rank, known, server, shared) for rank, m in enumerate(members)]
    group = Calls(pool, members, roster)
    group.ask(members, calls, START_TIMEOUT_S, is_busy=True)  # while `state` travels they answer nothing
    return RayGroup(pool, members, roster, group, worker)


def _fit_to_rounds(rules: GroupRules, worker: WorkerTask) -> GroupRules:
    """Return the rules for what one commit is: a round takes longer, and its state is kept in one place."""
    has_far_spares = rules.has_far_spares and worker.rounds is None
    step_timeout_s = rules.step_timeout_s * worker.steps_a_commit
    return replace(rules, step_timeout_s=step_timeout_s, has_far_spares=has_far_spares)


class RayGroup:
    """Members of a roster, linked up, that carry out steps together."""

    def __init__(self, pool: ActorPool, members: list[Joined], roster: Roster, calls: Calls, task: WorkerTask):
        self._pool = pool
        self._members = members
        self._roster = roster
        self._calls = calls
        self._task = task
        self._pacing = Pacing.of_equals(len(members))
        self._paces_told = self._pacing.planned
        self._chunk_size = 1

    @property
    def processes(self) -> tuple[Process, ...]:
        """The members' processes by rank."""
        servers = self._roster.num_servers
        return tuple(Process(who.host, who.pid, rank < servers) for rank, who in enumerate(self._roster.members))

    def run(
        self, orders: Iterator[StepOrder], must_end: Callable[[], bool], abandon: Abandon = never
    ) -> Iterator[StepReport]:
        """Carry out the steps; two chunks of them are under way at a time, so that no actor waits for the driver.

        must_end: is asked before each chunk whether to draw no more orders. abandon: as of Backend.run.
        """
        flights: deque[_Flight] = deque()
        while True:
            chunk = [] if must_end() else list(islice(orders, self._chunk_size))
            if chunk:
                paces = self._new_paces()
                flights.append(_Flight(chunk, [member.actor.run.remote(chunk, paces) for member in self._members]))
            if not flights:
                return
            if not chunk or len(flights) == 2:
                yield from self._land(flights.popleft(), abandon)

    def _new_paces(self) -> tuple[float, ...] | None:
        """Return the planned paces if the members do not know them yet: there is one for each, so they are long."""
        if self._pacing.planned == self._paces_told:
            return None
        self._paces_told = self._pacing.planned
        return self._paces_told

    def _land(self, flight: _Flight, abandon: Abandon) -> list[StepReport]:
        """Wait for a chunk; while the servers' slices are one step apart in time, their reports become one."""
        began = time.perf_counter()
        timeout_s = 2 * self._roster.timeout_s + CHUNK_S  # the members themselves notice silence after one
        gives_up = abandon if self._task.rounds is not None else never
        found = self._calls.ask(self._members, flight.results, timeout_s, abandon=gives_up)
        self._adapt(len(flight.orders), time.perf_counter() - began)
        self._pace(flight.orders, [effort for _, effort, _ in found])
        for member, (_, _, left_s) in zip(self._members, found, strict=True):
            if left_s is not None:
                self._pool.expect_end(member, Departure("its process has got SIGTERM", time.monotonic() + left_s))
        by_server = [reports for reports, _, _ in found if reports]
        joined = [join_reports(reports) for reports in zip(*by_server, strict=True)]
        return [one for report in joined for one in report.unrolled()]

    def _adapt(self, num_steps: int, seconds: float) -> None:
        """Choose the next chunk's length from how long this one was waited for."""
        wanted = int(num_steps * CHUNK_S / max(seconds, 1e-4))
        self._chunk_size = max(1, min(wanted, 2 * self._chunk_size, MAX_CHUNK // self._task.steps_a_commit))

    def _pace(self, orders: Sequence[StepOrder], efforts: Sequence[Effort]) -> None:
        """Give slow workers less to do; what nobody has tried yet is tried on one step first."""
        before = self._pacing
        count = max(order.num_microbatches for order in orders)
        self._pacing = before.after(efforts).replanned(count)
        if self._pacing.planned == before.planned:
            return
        self._chunk_size = 1
        self._pool.note("shards", self._describe_shards(count, self._pacing.planned))

    def _describe_shards(self, count: int, paces: tuple[float, ...]) -> str:
        sizes = [len(shard) for shard in paced_shards(count, paces)]
        slowest = max(range(len(sizes)), key=paces.__getitem__)
        leaves = "microbatches" if self._task.rounds is None else "replicas"
        return (
            f"{self._roster.name(slowest)} takes {paces[slowest] / min(paces):.1f} times as long as the fastest; "
            f"{leaves} of workers 0 to {len(sizes) - 1} are now {', '.join(map(str, sizes))}"
        )

    def evaluate(self) -> Evaluation:
        """Evaluate on the workers, each on its run of chunks."""
        parts = paced_shards(num_evaluation_chunks(self._task), self._pacing.planned)
        work = [(member, shard) for member, shard in zip(self._members, parts, strict=True) if shard]
        calls = [member.actor.evaluate.remote(shard) for member, shard in work]
        found = self._calls.ask([member for member, _ in work], calls, self._roster.timeout_s)
        return summarize([sums for part in found for sums in part], self._task.model.is_classification)

    def snapshot(self) -> Snapshot:
        """Return a copy of the servers' state."""
        found = join_snapshots(self._calls.ask(self._servers, self._ask_servers(), self._roster.timeout_s))
        if found is None:
            raise self._calls.dissolve("the servers stand at different steps")
        return found

    def rescue(self) -> Snapshot | None:
        """Return the newest state that the servers, or others of their nodes, can still give; None if none is whole."""
        there = {rank: member for rank, member in enumerate(self._members) if member in self._pool.joined}
        answers = _answers([member.actor.offers.remote() for member in there.values()])
        holders: dict[int, tuple[Joined, Offer]] = {}
        for (rank, holder), offers in zip(there.items(), answers, strict=True):
            for server, offer in (offers or {}).items():
                if server == rank or server not in holders:  # the server itself is preferred
                    holders[server] = holder, offer
        step = choose_step({server: offer for server, (_, offer) in holders.items()}, self._roster.num_servers)
        if step is None:
            return None
        slices = _answers([holders[server][0].actor.spare.remote(server, step) for server in sorted(holders)])
        found = [snapshot for snapshot in slices if snapshot is not None]
        return join_snapshots(align_reports(found)) if len(found) == len(slices) else None

    @property
    def _servers(self) -> list[Joined]:
        return self._members[: self._roster.num_servers]

    def _ask_servers(self) -> list[Any]:
        return [member.actor.snapshot.remote() for member in self._servers]


def _answers(calls: Sequence[Any]) -> list[Any]:
    """Return what the calls return, None for those that fail or take too long."""
    if calls:
        ray.wait(calls, num_returns=len(calls), timeout=RESCUE_TIMEOUT_S)
    return [_answer(call) for call in calls]


def _answer(call: Any) -> Any:
    try:
        return ray.get(call, timeout=0)
    except (*GONE, RayTaskError, GetTimeoutError):
        return None
