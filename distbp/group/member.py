"""One member of a group: a worker, on some ranks with a server beside it, and the exchange of one step.

Each step, every worker computes its partials and hands them to the servers; each server, once it has them all,
commits its slice and hands out the new parameters. On one node nothing is copied: partials are read and
parameters written where they lie, in memory that the node's members share, and only short messages are sent.
Between nodes the arrays themselves travel, partials to each server, parameters once to each node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.group.arena import Arena
from distbp.group.joining import join, share_spares
from distbp.group.lines import Lines
from distbp.group.links import SharedMemory, Switchboard
from distbp.group.partials import PartialsHeader
from distbp.group.roster import Roster
from distbp.group.spare import Offer, Spare
from distbp.nn.model import Sums
from distbp.protocol.messages import (
    Effort,
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
from distbp.protocol.planning import paced_shards
from distbp.protocol.roles import AnyServer, make_server, make_worker


class Member:
    """A worker and perhaps a server, linked to the other members of the roster."""

    def __init__(self, rank: int, roster: Roster, worker: WorkerTask, server: ServerTask, state: TrainState):
        """Prepare the roles around `state`; `connect` comes next."""
        self._rank = rank
        self._roster = roster
        self._lines = Lines(rank, roster)
        self._arena = Arena(len(state.parameters), state.parameters.dtype)
        self._worker = make_worker(worker, self._arena.allocate, self._lines.check)
        self._server_task = server
        self._server: AnyServer | None = None
        self._memory: SharedMemory | None = None
        self._spares: dict[int, Spare] = {}
        self._plan = _make_plan(roster.even_paces)
        self._has_diverged = False
        self._effort = Effort(0, 0.0)

    def connect(self, switchboard: Switchboard, state: TrainState) -> None:
        """Link up with the other members and share memory with those of this node.

        Raises PeerLostError naming who did not link up.
        """
        self._memory = join(self._lines, switchboard, self._arena, state)
        if self._server_task.outer is None:
            self._spares = share_spares(self._lines, self._parameters, state)
        if self._rank < self._roster.num_servers:
            start, stop = self._slice
            own, spare = slice_state(state, start, stop), self._spares.get(self._rank)
            self._server = make_server(self._server_task, own, start, self._parameters[start:stop], spare)

    def run(self, orders: list[StepOrder], paces: tuple[float, ...] | None = None) -> tuple[list[StepReport], Effort]:
        """Carry out consecutive steps; returns the reports of this member's server, none if it has no server.

        paces: by which every member plans the shards from now on (see `paced_shards`); None: as before, at first even
        ones. Also returns what this worker computed. A step that the servers did not commit is the last one, for every
        member: training diverged.

        Raises PeerLostError as soon as another member is gone, or silent for longer than the roster's time-out.
        """
        self._lines.check()
        self._effort = Effort(0, 0.0)
        if paces is not None:
            self._plan = _make_plan(paces)
        reports = []
        for order in orders:
            if self._has_diverged:  # in this chunk of orders or the one before
                break
            report = self._step(order, self._plan(order.num_microbatches))
            if report is not None:
                reports.append(report)
        return reports, self._effort

    def evaluate(self, shard: Shard) -> list[Sums]:
        """Return the sums over the evaluation chunks in `shard`."""
        return self._worker.evaluate(self._parameters, shard)

    def snapshot(self) -> Snapshot | None:
        """Return a copy of the server's slice of the state; None without a server."""
        return None if self._server is None else self._server.snapshot()

    def offers(self) -> dict[int, Offer]:
        """Return of which steps this member can give the state of a slice, by the rank of its server."""
        found = {rank: spare.offer for rank, spare in self._spares.items()}
        if self._server is not None and self._rank not in found:
            found[self._rank] = Offer(self._server.num_steps, self._server.num_steps)
        return found

    def spare(self, rank: int, step: int) -> Snapshot | None:
        """Return a copy of the slice of the server of `rank` after `step` steps; None if it is not to be had."""
        if rank in self._spares:
            return self._spares[rank].read(step)
        return self.snapshot()

    def cut(self) -> None:
        """Leave the group: what waits for others, or for data, raises PeerLostError. Any thread may call this."""
        self._lines.cut()
        self._worker.hurry()

    def close(self) -> None:
        """Leave the group and give back lines, threads and shared memory. The server still has its state."""
        self._lines.close()
        self._worker.close()
        self._arena.memory.close()
        for spare in self._spares.values():
            spare.close()
        if self._memory is not None:
            self._memory.close()

    @property
    def _parameters(self) -> NDArray:
        """The parameters of this node, (num_parameters,), which its servers and its leader write."""
        assert self._memory is not None  # `connect` comes first
        return self._memory.array

    @property
    def _slice(self) -> tuple[int, int]:
        return self._roster.slices[self._rank]

    def _step(self, order: StepOrder, work: Mapping[int, Shard]) -> StepReport | None:
        """Compute, hand in, commit, and wait for the new parameters. work: the shard of every rank that has one."""
        own = self._compute(order, work[self._rank]) if self._rank in work else None
        report = None if self._server is None else self._commit(self._server, order, work, own)
        committed = self._await_parameters(report is None or report.committed)
        self._lines.finish_posts()
        self._has_diverged = not committed
        return report

    # Workers to servers

    def _compute(self, order: StepOrder, shard: Shard) -> ShardResult:
        """Compute this worker's partials and give them to every server but its own.

        Near servers get their places in shared memory, others the slices themselves.
        """
        try:
            result = self._worker.compute(self._parameters, order, shard)
        except DataError:
            self._lines.check()  # it came because this member left, where it has
            raise
        so_far = self._effort
        self._effort = Effort(so_far.num_microbatches + len(shard), so_far.compute_s + result.compute_s)
        header = PartialsHeader.of(result, self._arena.place)
        for rank, (start, stop) in enumerate(self._roster.slices):
            if rank != self._rank:
                near = self._lines.is_near(rank)
                arrays = [] if near else [partial.gradient[start:stop] for partial in result.partials]
                self._lines.post(rank, header, arrays)
        return result

    def _collect(self, rank: int) -> ShardResult:
        """Wait for the partials of one worker and return this server's slice of them."""
        peer, (start, stop) = self._lines.peers[rank], self._slice
        header: PartialsHeader = self._lines.receive(rank)
        if peer.arena is not None:
            arrays = [peer.arena.buffer(place)[start:stop] for place in header.places]
        else:
            arrays = peer.scratch(len(header.places), stop - start, self._parameters.dtype)
            for array in arrays:
                self._lines.receive_into(rank, array)
        return header.to_result(arrays)

    # Servers to servers

    def _commit(
        self, server: AnyServer, order: StepOrder, work: Mapping[int, Shard], own: ShardResult | None
    ) -> StepReport:
        """Commit once all partials of the others are here, and say so to the workers."""
        results = self._lines.from_each(work.keys() - {self._rank}, self._collect)
        if own is not None:
            results.append(slice_result(own, *self._slice))
        report = server.commit(order, results, self._exchange if self._roster.num_servers > 1 else None)
        self._publish(report.committed)
        keeper = self._roster.far_keeper(self._rank)
        if keeper is not None and report.committed:
            self._lines.post(keeper, report, list(self._spares[self._rank].moments(report.step)))
        return report

    def _exchange(self, squares: list[float]) -> list[float]:
        """Tell the other servers that all partials are here, and wait until they say so too.

        No server commits before every one can, so that a lost worker never leaves the slices at different steps.
        """
        others = [rank for rank in range(self._roster.num_servers) if rank != self._rank]
        for rank in others:
            self._lines.post(rank, squares, [])
        return [*squares, *(square for rank in others for square in self._lines.receive(rank))]

    # Servers to workers

    def _publish(self, committed: bool) -> None:
        """Say on this node that the slice is ready, where it lies; send it to the leaders of the other nodes."""
        for rank in self._roster.near(self._rank):
            self._lines.post(rank, committed, [])
        for rank in self._roster.leaders:
            if not self._lines.is_near(rank):
                self._lines.post(rank, committed, [self._parameters[slice(*self._slice)]])

    def _await_parameters(self, committed: bool) -> bool:
        """Wait until every slice of this node's parameters is that of the next step.

        committed: what this member's own server says. Returns whether all servers committed.
        """
        servers = [rank for rank in range(self._roster.num_servers) if rank != self._rank]
        far = [rank for rank in servers if not self._lines.is_near(rank)]
        heard = [committed, *(self._lines.receive(rank) for rank in servers if self._lines.is_near(rank))]
        leader = self._roster.leader(self._rank)
        if far and leader != self._rank:
            heard.append(self._lines.receive(leader))
        if far and leader == self._rank:
            heard += self._lines.from_each(far, self._receive_slice)
            for rank in self._roster.near(self._rank):
                self._lines.post(rank, all(heard), [])
        return all(heard)

    def _receive_slice(self, rank: int) -> bool:
        """Wait for the new parameters of a server on another node; returns whether it committed."""
        committed: bool = self._lines.receive(rank)
        spare = self._spares.get(rank) if committed else None  # kept here for a server of another node
        if spare is not None:
            spare.begin()
            spare.keep(slice(0, len(spare)))
        self._lines.receive_into(rank, self._parameters[slice(*self._roster.slices[rank])])
        if spare is not None:
            report: StepReport = self._lines.receive(rank)
            for moment in spare.moments(report.step):
                self._lines.receive_into(rank, moment)
            spare.finish(report)
        return committed


def _make_plan(paces: tuple[float, ...]) -> Callable[[int], Mapping[int, Shard]]:
    """Return what gives the work of all ranks for a number of microbatches; made once, as it looks at every member."""
    return cache(partial(_plan_work, paces=paces))


def _plan_work(count: int, paces: tuple[float, ...]) -> dict[int, Shard]:
    """Return the shard of every rank that has one."""
    return {rank: shard for rank, shard in enumerate(paced_shards(count, paces)) if shard}
