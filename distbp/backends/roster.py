"""Who is in a group of members, and who talks to whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """The members by rank, and the slice of the flat vector of each server; server s is the member of rank s."""

    members: tuple[Membership, ...]
    slices: tuple[tuple[int, int], ...]
    secret: bytes
    timeout_s: float

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
        return next(other for other in range(len(self.members)) if self.are_near(other, rank))

    def leaders(self) -> list[int]:
        """Return the leader of every node."""
        return sorted({self.leader(rank) for rank in range(len(self.members))})

    def near(self, rank: int) -> list[int]:
        """Return the other members of this one's node."""
        return [other for other in range(len(self.members)) if other != rank and self.are_near(other, rank)]

    def are_linked(self, a: int, b: int) -> bool:
        """Return whether two members ever talk: one of them is a server, or the leader of both."""
        if a == b:
            return False
        return min(a, b) < self.num_servers or (self.are_near(a, b) and self.leader(a) in (a, b))

    def links(self, rank: int) -> list[int]:
        """Return the ranks that this one talks to."""
        return [other for other in range(len(self.members)) if self.are_linked(rank, other)]


def spread(nodes: Sequence[str]) -> list[int]:
    """Return the indices of `nodes` in an order that takes one of each node in turn, so that servers are spread."""
    groups: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        groups.setdefault(node, []).append(index)
    rounds = zip_longest(*groups.values())
    return [index for indices in rounds for index in indices if index is not None]
