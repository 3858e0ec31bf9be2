"""How a member joins its group: it links up with those it talks to, and shares memory with those of its node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.errors import ConfigError
from distbp.group.arena import Arena
from distbp.group.lines import Lines
from distbp.group.links import Link, SharedMemory, Switchboard, call, far_kind
from distbp.group.spare import Spare
from distbp.group.tls import SWITCH, Certificates
from distbp.protocol.messages import TrainState, slice_state


def join(lines: Lines, switchboard: Switchboard, arena: Arena, state: TrainState) -> SharedMemory:
    """Return this node's parameters as shared memory, once all lines are there and the node's servers see `arena`.

    Raises PeerLostError naming who did not link up.
    """
    try:
        lines.guard(None, lambda: _link_up(lines, switchboard))
    finally:
        switchboard.close()
    memory = lines.guard(None, lambda: _share_parameters(lines, state))
    lines.guard(None, lambda: _share_arenas(lines, arena, len(state.parameters), state.parameters.dtype))
    return memory


def share_spares(lines: Lines, parameters: NDArray, state: TrainState) -> dict[int, Spare]:
    """Return the slices of servers that this member can give, by the rank of the server.

    Those of its node, as every member of the node sees them, and those that it keeps for other nodes. parameters: of
    this node, (num_parameters,).
    """
    return lines.guard(None, lambda: _share_spares(lines, parameters, state))


def _share_spares(lines: Lines, parameters: NDArray, state: TrainState) -> dict[int, Spare]:
    roster, near, num_moments = lines.roster, lines.roster.near(lines.rank), len(state.moments)
    servers = range(roster.num_servers)
    found = {}
    if lines.rank in servers and (near or roster.far_keeper(lines.rank) is not None):
        own = found[lines.rank] = Spare(parameters[slice(*roster.slices[lines.rank])], num_moments)
        for rank in near:
            lines.peers[rank].link.send_memory(own.memory)
    for rank in near:
        if rank in servers:
            memory = lines.peers[rank].link.receive_memory(np.uint8)
            found[rank] = Spare(parameters[slice(*roster.slices[rank])], num_moments, memory)
    for rank in servers:
        if roster.far_keeper(rank) == lines.rank:
            bounds = roster.slices[rank]
            found[rank] = Spare(parameters[slice(*bounds)], num_moments)
            found[rank].open(slice_state(state, *bounds))
    return found


def _link_up(lines: Lines, switchboard: Switchboard) -> None:
    """Call the members of lower rank, then be called by those of higher rank."""
    timeout_s = lines.roster.timeout_s
    ranks = lines.roster.links(lines.rank)
    for rank in ranks:
        if rank < lines.rank:
            lines.add(rank, _call(lines, rank, switchboard.certificates))
    for kind in ("unix", "tcp"):
        for _ in [rank for rank in ranks if rank > lines.rank and _kind(lines, rank) == kind]:
            link = switchboard.accept(kind, timeout_s)
            lines.add(link.receive(), link)


def _call(lines: Lines, rank: int, certificates: Certificates | None) -> Link:
    roster, addresses = lines.roster, lines.roster.members[rank].addresses
    kind = "unix" if lines.is_near(rank) else far_kind(certificates)
    if kind not in addresses:
        raise ConfigError(
            f"{roster.name(rank)} and {roster.name(lines.rank)} do not agree whether lines are encrypted; set {SWITCH} "
            "and its certificates alike on every node"
        )
    link = call(addresses[kind], roster.secret, roster.timeout_s, certificates)
    link.send(lines.rank)
    return link


def _kind(lines: Lines, rank: int) -> str:
    return "unix" if lines.is_near(rank) else "tcp"


def _share_parameters(lines: Lines, state: TrainState) -> SharedMemory:
    """Make this node's parameters if this is its leader, else map the leader's."""
    leader = lines.roster.leader(lines.rank)
    if leader != lines.rank:
        return lines.peers[leader].link.receive_memory(state.parameters.dtype)
    memory = SharedMemory(len(state.parameters), state.parameters.dtype)
    memory.array[...] = state.parameters
    for rank in lines.roster.near(lines.rank):
        lines.peers[rank].link.send_memory(memory)
    return memory


def _share_arenas(lines: Lines, arena: Arena, num_parameters: int, dtype: np.dtype) -> None:
    """Let the servers of this node read this worker's gradients where they lie."""
    near, num_servers = lines.roster.near(lines.rank), lines.roster.num_servers
    for rank in near:
        if rank < num_servers:
            lines.peers[rank].link.send_memory(arena.memory)
    if lines.rank < num_servers:
        for rank in near:
            memory = lines.peers[rank].link.receive_memory(dtype)
            lines.peers[rank].arena = Arena(num_parameters, dtype, memory)
