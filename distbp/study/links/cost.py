"""Seconds and bytes of one way to train over several hosts. Pure; the seconds of computing are measured elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

MESSAGE_S = 2e-4
"""Of a commit beside its arrays: measured on one machine, a lower bound for real hosts."""


@dataclass(frozen=True)
class Links:
    """Hosts, each with one worker and one server on it, and the bandwidth of each one's line, in each direction."""

    num_hosts: int
    mbit_s: float


@dataclass(frozen=True)
class Way:
    """A way to train. steps: between two commits, None where each is committed; replicas: of rounds.

    num_hosts: that take part; 1 sends nothing.
    """

    batch_size: int
    num_hosts: int
    steps: int | None = None
    replicas: int = 1

    @property
    def name(self) -> str:
        """What to call it."""
        hosts = "one host" if self.num_hosts == 1 else f"{self.num_hosts} hosts"
        if self.steps is not None:
            return f"{hosts}, {self.replicas} x {self.steps} steps"
        return f"{hosts}, batch {self.batch_size}" if self.num_hosts == 1 else f"{hosts}, every step"

    @property
    def part(self) -> int:
        """Examples of a batch on the host that has most of them at a time."""
        return -(-self.batch_size // (self.num_hosts if self.steps is None else self.replicas))

    @property
    def turns(self) -> int:
        """How many parts a host computes one after the other."""
        return 1 if self.steps is None else -(-self.replicas // self.num_hosts)


def bytes_of_commit(num_bytes: int, num_hosts: int) -> float:
    """Return the bytes that each host sends for a commit, and receives. num_bytes: of the parameters.

    Each of S servers has 1/S of them: gradients to the S - 1 others, and its own part of the parameters to each.
    """
    return 2 * num_bytes * (num_hosts - 1) / num_hosts


def seconds_of_steps(way: Way, num_steps: int, part_s: float, num_bytes: int, links: Links) -> float:
    """Return the seconds of so many steps. part_s: of a step with `way.part` examples on a core of its own."""
    compute_s = num_steps * way.turns * part_s
    if way.num_hosts == 1:
        return compute_s
    sent_s = 8 * bytes_of_commit(num_bytes, way.num_hosts) / (1e6 * links.mbit_s)
    return compute_s + num_commits(way, num_steps) * (sent_s + MESSAGE_S)


def num_commits(way: Way, num_steps: int) -> int:
    """Return how many commits there are in so many steps."""
    return -(-num_steps // (way.steps or 1))
