"""Who is in a group of members, and who talks to whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any


@dataclass(frozen=True)
class Membership:
    """Who joined: where it runs, what its arithmetic's probe gives, and where other members reach it.

    node: members of the same node share memory. host: what people call the machine. started: the kernel's start
    time of the process. addresses: by kind, "tcp" and where possible "unix"; other ones for each group.
    """

    node: str
    host: str
    pid: int
    probe: str
    started: int | None = None
    addresses: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Roster:
    """The members by rank, and the slice of the flat vector of each server; server s is the member of rank s.

    has_far_spares: whether each server's state has a second place on another node.
    """

    members: tuple[Membership, ...]
    slices: tuple[tuple[int, int], ...]
    secret: bytes
    timeout_s: float
    has_far_spares: bool = False

    @property
    def num_servers(self) -> int:
        """How many members have the server's role as well."""
        return len(self.slices)

    @property
    def even_paces(self) -> tuple[float, ...]:
        """Paces of members of which none is faster than another."""
        return (1.0,) * len(self.members)

    def name(self, rank: int) -> str:
        """Return what to call a member in a message."""
        role = "worker and server" if rank < self.num_servers else "worker"
        return f"{role} {rank} (node {self.members[rank].host}, pid {self.members[rank].pid})"

    def are_near(self, a: int, b: int) -> bool:
        """Return whether two members share memory."""
        return self.members[a].node == self.members[b].node

    def leader(self, rank: int) -> int:
        """Return the lowest rank on the node of `rank`: it receives what comes from other nodes, once for all."""
        return self._ranks_by_node[self.members[rank].node][0]

    @cached_property
    def leaders(self) -> tuple[int, ...]:
        """The leader of every node."""
        return tuple(ranks[0] for ranks in self._ranks_by_node.values())

    def far_keeper(self, rank: int) -> int | None:
        """Return who keeps the second copy of a server's state: the leader of the next node; None: nobody."""
        if not self.has_far_spares or len(self.leaders) == 1:
            return None
        return self.leaders[(self.leaders.index(self.leader(rank)) + 1) % len(self.leaders)]

    def near(self, rank: int) -> list[int]:
        """Return the other members of this one's node."""
        return [other for other in self._ranks_by_node[self.members[rank].node] if other != rank]

    def links(self, rank: int) -> list[int]:
        """Return the ranks that this one talks to: of two that talk, one is a server, or the leader of their node."""
        if rank < self.num_servers:
            return [other for other in range(len(self.members)) if other != rank]
        leader = self.leader(rank)
        beside = self.near(rank) if leader == rank else [leader]
        return sorted({*range(self.num_servers), *beside})

    @cached_property
    def _ranks_by_node(self) -> dict[str, list[int]]:
        """The ranks on each node, both in ascending order: made once, because a step must not look at every member."""
        found: dict[str, list[int]] = {}
        for rank, member in enumerate(self.members):
            found.setdefault(member.node, []).append(rank)
        return found


def spread(nodes: Sequence[str]) -> list[int]:
    """Return the indices of `nodes` in an order that takes one of each node in turn, so that servers are spread."""
    groups: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        groups.setdefault(node, []).append(index)
    rounds = zip_longest(*groups.values())
    return [index for indices in rounds for index in indices if index is not None]
