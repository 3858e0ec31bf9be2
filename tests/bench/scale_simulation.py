"""A group in virtual time: the product's own step of every member, and its driver's loop, at measured costs.

What is executed is Member.run with the roster, the shards, the tree and the order of the exchange, and RayGroup.run
with its chunks and paces. What is replaced takes time here: sockets, computing, the commit.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from scale_crew import Task
from scale_virtual import Clock, Queue

from distbp.backends.ray import group as group_module
from distbp.backends.ray.group import RayGroup
from distbp.backends.ray.pool import Joined
from distbp.group import member as member_module
from distbp.group.member import Member
from distbp.group.roster import Membership, Roster, spread
from distbp.group.words import encode
from distbp.nn import tree
from distbp.protocol.messages import Partial, Shard, ShardResult, StepOrder, StepReport
from distbp.protocol.planning import choose_slices


@dataclass(frozen=True)
class Costs:
    """Seconds of a core, but for pause_s, latency_s and bytes_per_s of a node's line.

    near_s, far_s: to send or to receive one small message. byte_s: to send or receive one byte. step_s: what else a
    worker does in a step. commit_s: a server's commit, and partial_s more for each partial. order_s: for the driver, to
    order a chunk from one member and to take its answer; as much for the member.
    """

    near_s: float
    far_s: float
    step_s: float
    commit_s: float
    partial_s: float
    order_s: float
    byte_s: float = 0.0
    pause_s: float = 0.0
    latency_s: float = 0.0
    bytes_per_s: float = float("inf")


class World:
    """The machines: each node's cores and its line in either direction. One machine: all nodes share its cores."""

    def __init__(self, costs: Costs, num_cores: int, is_one_machine: bool):
        self.clock = Clock()
        self.costs = costs
        self._num_cores = num_cores
        self._is_one = is_one_machine
        self._cores: dict[str, Queue] = {}
        self._lines: dict[tuple[str, str], Queue] = {}
        self.num_messages = 0
        self.far_bytes = 0

    def work(self, node: str, seconds: float) -> None:
        """Use a core."""
        self.clock.sleep_until(self.reserve(node, self.clock.now, seconds))

    def reserve(self, node: str, start: float, seconds: float) -> float:
        """Return when work that could begin at `start` is done."""
        key = "" if self._is_one else node
        return self._cores.setdefault(key, Queue(self._num_cores)).reserve(start, seconds)

    def carry(self, source: str, target: str, num_bytes: int, start: float) -> float:
        """Return when bytes arrive that leave at `start`."""
        self.far_bytes += num_bytes
        seconds = num_bytes / self.costs.bytes_per_s
        left = self._lines.setdefault((source, "out"), Queue()).reserve(start, seconds)
        return self._lines.setdefault((target, "in"), Queue()).reserve(left - seconds + self.costs.latency_s, seconds)


class VirtualLines:
    """Stands for Lines, in virtual time."""

    def __init__(self, world: World, rank: int, roster: Roster):
        self.rank, self.roster, self._world = rank, roster, world
        self._node = roster.members[rank].node
        self.peers = _Peers(self)
        self._outboxes: dict[int, float] = {}

    def is_near(self, rank: int) -> bool:
        return self.roster.are_near(self.rank, rank)

    def check(self) -> None:
        """Nobody is lost."""

    def post(self, rank: int, message: Any, arrays: list[Any]) -> None:
        world, costs = self._world, self._world.costs
        world.num_messages += 1
        if self.is_near(rank):
            world.work(self._node, costs.near_s)
            world.clock.send((self.rank, rank), message, world.clock.now)
            return
        num_bytes = 8 + len(encode(message)) + sum(array.nbytes for array in arrays)
        start = max(world.clock.now, self._outboxes.get(rank, 0.0))
        sent = world.reserve(self._node, start, costs.far_s + num_bytes * costs.byte_s)
        self._outboxes[rank] = sent
        arrival = world.carry(self._node, self.roster.members[rank].node, num_bytes, sent)
        world.clock.send((self.rank, rank), message, arrival)

    def finish_posts(self) -> None:
        self._world.clock.sleep_until(max(self._outboxes.values(), default=0.0))

    def receive(self, rank: int) -> Any:
        message = self._world.clock.take((rank, self.rank))
        self._world.work(self._node, self._world.costs.near_s if self.is_near(rank) else self._world.costs.far_s)
        return message

    def receive_into(self, rank: int, array: Any) -> None:  # noqa: ARG002 - it came with its message
        self._world.work(self._node, array.nbytes * self._world.costs.byte_s)

    def from_each(self, ranks: Iterable[int], receive: Callable[[int], Any]) -> list[Any]:
        return [receive(rank) for rank in ranks]


class _Peers:
    def __init__(self, lines: VirtualLines):
        self._lines = lines
        self._shared = np.broadcast_to(np.float32(0), lines.roster.slices[-1][1])

    def __getitem__(self, rank: int) -> Any:
        scratch = lambda number, size, dtype: [np.broadcast_to(dtype.type(0), size)] * number  # noqa: E731
        arena = types.SimpleNamespace(buffer=lambda _: self._shared) if self._lines.is_near(rank) else None
        return types.SimpleNamespace(arena=arena, scratch=scratch)


class _Worker:
    def __init__(self, world: World, node: str, size: int):
        self._world, self._node = world, node
        self._gradient = np.broadcast_to(np.float32(0), size)

    def compute(self, _parameters: Any, _order: StepOrder, shard: Shard) -> ShardResult:
        began = self._world.clock.now
        self._world.work(self._node, self._world.costs.step_s)
        self._world.clock.sleep_until(self._world.clock.now + self._world.costs.pause_s * len(shard))
        nodes = tree.cover(shard.start, shard.stop, shard.num_microbatches)
        partials = tuple(Partial(start, stop, self._gradient, 0.0, stop - start) for start, stop in nodes)
        return ShardResult(partials, self._world.clock.now - began)


class _Server:
    def __init__(self, world: World, node: str):
        self._world, self._node = world, node

    def commit(self, order: StepOrder, results: list[ShardResult], exchange: Any) -> StepReport:
        partials = sorted((p for result in results for p in result.partials), key=lambda p: p.start)
        tree.merge_order(tuple((p.start, p.stop) for p in partials), (0, order.num_microbatches))
        if exchange is not None:
            exchange([])
        costs = self._world.costs
        self._world.work(self._node, costs.commit_s + costs.partial_s * len(partials))
        compute_s = max(result.compute_s for result in results)
        return StepReport(order.step + 1, order.epoch, 0.0, 1, f"{0:016x}", True, compute_s, 0.0, 0.0)


class _Actor:
    """Takes the driver's orders, as a process of its own in virtual time."""

    def __init__(self, world: World, member: Member, rank: int, node: str):
        self._world, self._member, self._rank, self._node = world, member, rank, node
        self.run = self
        world.clock.start(self._serve)

    def remote(self, orders: list[StepOrder] | None, paces: Any) -> int:
        self._world.work("driver", self._world.costs.order_s / 2)
        arrival = self._world.clock.now + self._world.costs.latency_s
        self._world.clock.send(("to", self._rank), (orders, paces), arrival)
        return self._rank

    def _serve(self) -> None:
        while True:
            orders, paces = self._world.clock.take(("to", self._rank))
            if orders is None:
                return
            self._world.work(self._node, self._world.costs.order_s)
            answer = (*self._member.run(orders, paces), None)
            arrival = self._world.clock.now + self._world.costs.latency_s
            self._world.clock.send(("from", self._rank), answer, arrival)


class _Calls:
    def __init__(self, world: World):
        self._world = world

    def ask(self, _members: Any, ranks: list[int], _timeout_s: float, **_: Any) -> list[Any]:
        found = [self._world.clock.take(("from", rank)) for rank in ranks]
        self._world.work("driver", len(ranks) * self._world.costs.order_s / 2)
        return found


@dataclass(frozen=True)
class Simulated:
    """Of one step: its seconds in the steady state, and messages between members and bytes between nodes, of all."""

    step_s: float
    num_messages: float
    far_bytes: float


def simulate(
    costs: Costs,
    nodes: list[str],
    num_servers: int,
    size: int,
    num_cores: int = 2,
    is_one_machine: bool = True,
    num_steps: int = 24,
) -> Simulated:
    """Return what a step costs in a group of members on `nodes`; the first third of the steps does not count."""
    world = World(costs, num_cores, is_one_machine)
    task = Task.of(len(nodes), 1)
    members = tuple(Membership(nodes[i], nodes[i], i, "") for i in spread(nodes))
    roster = Roster(members, choose_slices(num_servers, size, len(nodes)), b"", 60.0)
    marks: list[float] = []

    def drive() -> None:
        group = RayGroup(types.SimpleNamespace(note=lambda *_: None), joined, roster, _Calls(world), task.worker)
        for report in group.run(task.orders(0, num_steps), lambda: False):
            marks.append(world.clock.now)
            assert report.step == len(marks)
        for one in joined:
            one.actor.remote(None, None)

    with _virtual(world, size):
        joined = []
        for rank, who in enumerate(roster.members):
            member = Member(rank, roster, task.worker, task.server, task.state)
            member.connect(None, task.state)
            joined.append(Joined(rank, _Actor(world, member, rank, who.node), who))
        world.clock.start(drive)
        world.clock.run()
    return Simulated(_steady_s(marks), world.num_messages / num_steps, world.far_bytes / num_steps)


def _steady_s(marks: list[float]) -> float:
    """Return the mean seconds of a step from the landing of one chunk to that of the last; a third is warm-up."""
    landed = [place for place, mark in enumerate(marks) if place + 1 == len(marks) or marks[place + 1] > mark]
    first = next(place for place in landed if place + 1 >= len(marks) // 3)
    return (marks[-1] - marks[first]) / (len(marks) - 1 - first)


def _virtual(world: World, size: int) -> Any:
    """Return a context in which members are made of parts that take virtual time."""
    array = np.broadcast_to(np.float32(0), size)
    node: dict[str, str] = {}

    def make_lines(rank: int, roster: Roster) -> VirtualLines:
        node["last"] = roster.members[rank].node
        return VirtualLines(world, rank, roster)

    stack = mock.patch.multiple(
        member_module,
        Lines=make_lines,
        Arena=lambda *_: types.SimpleNamespace(allocate=None, place=lambda _: 0),
        join=lambda *_: types.SimpleNamespace(array=array),
        share_spares=lambda *_: {},
        make_worker=lambda *_: _Worker(world, node["last"], size),
        make_server=lambda *_: _Server(world, node["last"]),
    )
    clock = types.SimpleNamespace(perf_counter=lambda: world.clock.now, monotonic=lambda: world.clock.now)
    return _Both(stack, mock.patch.object(group_module, "time", clock))


class _Both:
    def __init__(self, *contexts: Any):
        self._contexts = contexts

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        with suppress(RuntimeError):
            for context in self._contexts:
                context.__exit__(*error)
