"""One member of a group: a worker, on some ranks with a server beside it, and the exchange of one step.

Each step, every worker computes its partials and hands them to the servers; each server, once it has them all,
commits its slice and hands out the new parameters. On one node nothing is copied: partials are read and
parameters written where they lie, in memory that the node's members share, and only short messages are sent.
Between nodes the arrays themselves travel, partials to each server, parameters once to each node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import AuthenticationError
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DistbpError
from distbp.group.links import Link, SharedMemory, Switchboard, call
from distbp.group.roster import Roster
from distbp.nn.model import Sums
from distbp.protocol.messages import (
    Effort,
    Partial,
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
from distbp.protocol.planning import num_microbatches, paced_shards
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Worker

T = TypeVar("T")


class PeerLostError(Exception):
    """Another member is gone or silent, or this one has been told to leave the group."""


class Member:
    """A worker and perhaps a server, linked to the other members of the roster."""

    def __init__(self, rank: int, roster: Roster, worker: WorkerTask, server: ServerTask, state: TrainState):
        """Prepare the roles around `state`; `connect` comes next."""
        self._rank = rank
        self._roster = roster
        self._task = worker
        self._arena = _Arena(len(state.parameters), state.parameters.dtype)
        self._worker = Worker(worker, self._arena.allocate)
        self._server_task = server
        self._peers: dict[int, _Peer] = {}
        self._posted: list[Future[None]] = []
        self._memory: SharedMemory | None = None
        self._server: ParameterServer | None = None
        self._inboxes = ThreadPoolExecutor(len(roster.members), "distbp-inbox")
        self._lost: PeerLostError | None = None
        self._has_diverged = False
        self._effort = Effort(0, 0.0)

    def connect(self, switchboard: Switchboard, state: TrainState) -> None:
        """Link up with the other members and share memory with those of this node.

        Raises PeerLostError naming who did not link up.
        """
        try:
            self._guard(None, lambda: self._link_up(switchboard))
        finally:
            switchboard.close()
        self._guard(None, lambda: self._share(state))
        self._server = self._make_server(state)

    def run(self, orders: list[StepOrder], paces: tuple[float, ...] = ()) -> tuple[list[StepReport], Effort]:
        """Carry out consecutive steps; returns the reports of this member's server, none if it has no server.

        paces: by which every member plans the shards (see `paced_shards`); none for even ones. Also returns what this
        worker computed. A step that the servers did not commit is the last one, for every member: training diverged.

        Raises PeerLostError as soon as another member is gone, or silent for longer than the roster's time-out.
        """
        if self._lost is not None:
            raise self._lost
        self._effort = Effort(0, 0.0)
        plan = cache(partial(_plan_work, paces=paces or self._roster.even_paces))
        reports = []
        for order in orders:
            if self._has_diverged:  # in this chunk of orders or the one before
                break
            report = self._step(order, plan(num_microbatches(order.stop - order.start, self._task.microbatch_size)))
            if report is not None:
                reports.append(report)
        return reports, self._effort

    def evaluate(self, shard: Shard) -> list[Sums]:
        """Return the sums over the evaluation chunks in `shard`."""
        return self._worker.evaluate(self._parameters, shard)

    def snapshot(self) -> Snapshot | None:
        """Return a copy of the server's slice of the state; None without a server."""
        return None if self._server is None else self._server.snapshot()

    def _step(self, order: StepOrder, work: Mapping[int, Shard]) -> StepReport | None:
        own = self._worker.compute(self._parameters, order, work[self._rank]) if self._rank in work else None
        if own is not None:
            self._note_effort(work[self._rank], own)
            self._hand_in(own)
        report = None
        if self._server is not None:
            results = self._from_each(work.keys() - {self._rank}, self._collect)
            if own is not None:
                results.append(slice_result(own, *self._slice))
            report = self._server.commit(order, results, self._exchange if self._roster.num_servers > 1 else None)
            self._has_diverged = not report.committed
            self._publish()
        self._await_parameters()
        self._finish_posts()
        return report

    def _note_effort(self, shard: Shard, result: ShardResult) -> None:
        so_far = self._effort
        self._effort = Effort(so_far.num_microbatches + shard.stop - shard.start, so_far.compute_s + result.compute_s)

    # Workers to servers

    def _hand_in(self, result: ShardResult) -> None:
        """Give the partials to every server: their places in shared memory, or the slices themselves."""
        header = _Header.of(result, self._arena)
        for rank, (start, stop) in enumerate(self._roster.slices):
            if rank == self._rank:
                continue
            arrays = [] if self._is_near(rank) else [partial.gradient[start:stop] for partial in result.partials]
            self._post(rank, header, arrays)

    def _collect(self, rank: int) -> ShardResult:
        """Wait for the partials of one worker and return this server's slice of them."""
        peer, (start, stop) = self._peers[rank], self._slice
        header: _Header = self._receive(rank)
        if peer.arena is not None:
            arrays = [peer.arena.buffer(place)[start:stop] for place in header.places]
        else:
            arrays = peer.scratch(len(header.places), stop - start, self._parameters.dtype)
            for array in arrays:
                self._receive_into(rank, array)
        return header.to_result(arrays)

    # Servers to servers

    def _exchange(self, squares: list[float]) -> list[float]:
        """Tell the other servers that all partials are here, and wait until they say so too.

        No server commits before every one can, so that a lost worker never leaves the slices at different steps.
        """
        others = [rank for rank in range(self._roster.num_servers) if rank != self._rank]
        for rank in others:
            self._post(rank, squares, [])
        return [*squares, *(square for rank in others for square in self._receive(rank))]

    # Servers to workers

    def _publish(self) -> None:
        """Say on this node that the slice is ready, where it lies; send it to the leaders of the other nodes.

        The message itself says whether training has diverged.
        """
        for rank in self._roster.near(self._rank):
            self._post(rank, self._has_diverged, [])
        for rank in self._roster.leaders:
            if not self._is_near(rank):
                self._post(rank, self._has_diverged, [self._parameters[slice(*self._slice)]])

    def _await_parameters(self) -> None:
        """Wait until every slice of this node's parameters is that of the next step."""
        is_leader = self._roster.leader(self._rank) == self._rank
        far = [rank for rank in range(self._roster.num_servers) if not self._is_near(rank)]
        for rank in range(self._roster.num_servers):
            if rank != self._rank and self._is_near(rank):
                self._has_diverged |= self._receive(rank)
        if far and not is_leader:
            self._has_diverged |= self._receive(self._roster.leader(self._rank))
        if far and is_leader:
            self._has_diverged |= any(self._from_each(far, self._receive_slice))
            for rank in self._roster.near(self._rank):
                self._post(rank, self._has_diverged, [])

    def _receive_slice(self, rank: int) -> bool:
        """Wait for the new parameters of a server on another node; returns whether training has diverged."""
        has_diverged: bool = self._receive(rank)
        self._receive_into(rank, self._parameters[slice(*self._roster.slices[rank])])
        return has_diverged

    # Setting up

    def _link_up(self, switchboard: Switchboard) -> None:
        """Call the members of lower rank, then be called by those of higher rank."""
        for rank in self._roster.links(self._rank):
            if rank < self._rank:
                self._add_peer(rank, self._call(rank))
        for kind in ("unix", "tcp"):
            for _ in [rank for rank in self._roster.links(self._rank) if self._is_called_by(rank, kind)]:
                link = switchboard.accept(kind, self._roster.timeout_s)
                self._add_peer(link.receive(), link)

    def _is_called_by(self, rank: int, kind: str) -> bool:
        return rank > self._rank and self._kind(rank) == kind

    def _share(self, state: TrainState) -> None:
        self._share_parameters(state)
        self._share_arenas(state.parameters.dtype)

    def _kind(self, rank: int) -> str:
        return "unix" if self._is_near(rank) else "tcp"

    def _is_near(self, rank: int) -> bool:
        return self._roster.are_near(self._rank, rank)

    @property
    def _slice(self) -> tuple[int, int]:
        return self._roster.slices[self._rank]

    def _call(self, rank: int) -> Link:
        address = self._roster.members[rank].addresses[self._kind(rank)]
        link = call(address, self._roster.secret, self._roster.timeout_s)
        link.send(self._rank)
        return link

    def _add_peer(self, rank: int, link: Link) -> None:
        self._peers[rank] = _Peer(link, self._is_near(rank))

    def _share_parameters(self, state: TrainState) -> None:
        """Make this node's parameters if this is its leader, else map the leader's."""
        leader = self._roster.leader(self._rank)
        if leader != self._rank:
            memory = self._peers[leader].link.receive_memory(state.parameters.dtype)
        else:
            memory = SharedMemory(len(state.parameters), state.parameters.dtype)
            memory.array[...] = state.parameters
            for rank in self._roster.near(self._rank):
                self._peers[rank].link.send_memory(memory)
        self._memory, self._parameters = memory, memory.array

    def _share_arenas(self, dtype: np.dtype) -> None:
        """Let the servers of this node read this worker's gradients where they lie."""
        near = self._roster.near(self._rank)
        for rank in near:
            if rank < self._roster.num_servers:
                self._peers[rank].link.send_memory(self._arena.memory)
        if self._rank < self._roster.num_servers:
            for rank in near:
                memory = self._peers[rank].link.receive_memory(dtype)
                self._peers[rank].arena = _Arena(len(self._parameters), dtype, memory)

    def _make_server(self, state: TrainState) -> ParameterServer | None:
        if self._rank >= self._roster.num_servers:
            return None
        start, stop = self._slice
        return ParameterServer(self._server_task, slice_state(state, start, stop), start, self._parameters[start:stop])

    # Sending and receiving

    def _post(self, rank: int, message: Any, arrays: list[NDArray]) -> None:
        """Send in order; to another node in the background, so that both directions of the line are used."""
        peer = self._peers[rank]
        if peer.outbox is None:
            self._guard(rank, lambda: peer.link.send(message))
        else:
            self._posted.append(peer.outbox.submit(_send_all, peer.link, message, arrays))

    def _finish_posts(self) -> None:
        """Wait until what was posted is sent: its arrays are about to change."""
        posted, self._posted = self._posted, []
        for future in posted:
            self._guard(None, future.result)

    def _from_each(self, ranks: Iterable[int], receive: Callable[[int], T]) -> list[T]:
        """Return receive(rank) for each, from other nodes all at once: a line whose bytes nobody reads stands still."""
        near = [rank for rank in ranks if self._is_near(rank)]
        far = [rank for rank in ranks if not self._is_near(rank)]
        arriving = map(receive, far) if len(far) < 2 else self._inboxes.map(receive, far)
        return [*map(receive, near), *arriving]

    def _receive(self, rank: int) -> Any:
        return self._guard(rank, self._peers[rank].link.receive)

    def _receive_into(self, rank: int, array: NDArray) -> None:
        self._guard(rank, lambda: self._peers[rank].link.receive_into(array))

    def _guard(self, rank: int | None, action: Callable[[], Any]) -> Any:
        """Do it; a broken or silent line becomes PeerLostError, and then every line is cut: the others see it too.

        What fails because the lines were cut raises the error that they were cut for.
        """
        try:
            return action()
        except (OSError, EOFError, AuthenticationError) as error:
            self._lost = self._lost or self._explain(rank, error)
            self.cut()
            raise self._lost from None

    def _explain(self, rank: int | None, error: Exception) -> PeerLostError:
        who = self._name_missing() if rank is None else self._roster.name(rank)
        if isinstance(error, TimeoutError):
            return PeerLostError(f"{who} was silent for {self._roster.timeout_s:g} s")
        return PeerLostError(f"{who} is gone: {error}")

    def _name_missing(self) -> str:
        """Return who has not linked up yet, of those that this member talks to."""
        missing = [rank for rank in self._roster.links(self._rank) if rank not in self._peers]
        return " and ".join(self._roster.name(rank) for rank in missing) or "a member"

    def cut(self) -> None:
        """Leave the group: every line ends, what waits on one raises PeerLostError. Any thread may call this."""
        self._lost = self._lost or PeerLostError("this member has left its group")
        for peer in list(self._peers.values()):
            peer.link.cut()

    def close(self) -> None:
        """Leave the group and give back lines, threads and shared memory. The server still has its state."""
        self.cut()
        for peer in self._peers.values():
            peer.close()
        self._inboxes.shutdown(wait=False)
        self._arena.memory.close()
        if self._memory is not None:
            self._memory.close()


def _plan_work(count: int, paces: tuple[float, ...]) -> dict[int, Shard]:
    """Return the shard of every rank that has one."""
    return {rank: shard for rank, shard in enumerate(paced_shards(count, paces)) if shard.stop > shard.start}


class _Arena:
    """Gradient buffers in shared memory, known to other processes by their number."""

    CAPACITY = 256  # pages take space only once written, so room for many costs nothing

    def __init__(self, size: int, dtype: np.dtype, memory: SharedMemory | None = None):
        self.memory = memory or SharedMemory(size * self.CAPACITY, dtype)
        self._buffers = self.memory.array.reshape(self.CAPACITY, size)
        self._num_allocated = 0

    def allocate(self) -> NDArray:
        """Return the next buffer, (num_parameters,). Raises DistbpError when all are in use."""
        if self._num_allocated == self.CAPACITY:
            raise DistbpError(
                f"a worker needs more than {self.CAPACITY} gradient buffers; use fewer threads_per_worker"
            )
        self._num_allocated += 1
        return self.buffer(self._num_allocated - 1)

    def buffer(self, place: int) -> NDArray:
        """Return buffer number `place`."""
        buffer: NDArray = self._buffers[place]
        return buffer

    def place(self, buffer: NDArray) -> int:
        """Return the number of a buffer."""
        offset = buffer.ctypes.data - self._buffers.ctypes.data
        return offset // max(1, self._buffers.strides[0])


@dataclass(frozen=True)
class _Header:
    """A ShardResult without its arrays. places: where they lie in the sender's arena."""

    nodes: tuple[tuple[int, int, float, int], ...]
    places: tuple[int, ...]
    compute_s: float

    @classmethod
    def of(cls, result: ShardResult, arena: _Arena) -> _Header:
        nodes = tuple((p.start, p.stop, p.loss, p.num_examples) for p in result.partials)
        return cls(nodes, tuple(arena.place(p.gradient) for p in result.partials), result.compute_s)

    def to_result(self, arrays: list[NDArray]) -> ShardResult:
        parts = zip(self.nodes, arrays, strict=True)
        return ShardResult(tuple(Partial(a, b, array, loss, n) for (a, b, loss, n), array in parts), self.compute_s)


class _Peer:
    """Another member: the line to it, and what this one keeps for it."""

    def __init__(self, link: Link, is_near: bool):
        self.link = link
        self.arena: _Arena | None = None
        self.outbox = None if is_near else ThreadPoolExecutor(1, "distbp-outbox")
        self._scratch: list[NDArray] = []

    def scratch(self, count: int, size: int, dtype: np.dtype) -> list[NDArray]:
        """Return `count` arrays (size,) to receive into, the same ones each time."""
        while len(self._scratch) < count:
            self._scratch.append(np.empty(size, dtype))
        return self._scratch[:count]

    def close(self) -> None:
        """Give back the line and what belongs to it."""
        self.link.close()
        if self.arena is not None:
            self.arena.memory.close()
        if self.outbox is not None:
            self.outbox.shutdown(wait=False)


def _send_all(link: Link, message: Any, arrays: list[NDArray]) -> None:
    link.send(message)
    for array in arrays:
        link.send_array(array)
