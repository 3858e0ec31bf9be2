"""A Member as a Ray actor: a thin shell around the plain class, wrapped late by ray.remote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from distbp.backends.ray.notices import TermNotice
from distbp.errors import ConfigError
from distbp.group.links import CAN_SHARE, Switchboard
from distbp.group.member import Member
from distbp.group.roster import Membership, Roster
from distbp.group.spare import Offer
from distbp.group.tls import Certificates
from distbp.machine.processes import read_start_time
from distbp.nn.blas import pin_blas
from distbp.nn.model import Sums
from distbp.nn.numerics import probe
from distbp.protocol.examples import Examples
from distbp.protocol.messages import Effort, ServerTask, Shard, Snapshot, StepOrder, StepReport, TrainState, WorkerTask
from distbp.protocol.supply import Supply

CONTROL = "control"
"""The concurrency group of `ping` and `cut`: a thread of its own."""


@dataclass(frozen=True)
class MappedFile:
    """A memory-mapped .npy file, sent by name: every node maps it itself, and nothing is copied."""

    path: str
    shape: tuple[int, ...]

    def open(self) -> NDArray:
        """Return the mapped array."""
        array: NDArray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array.reshape(self.shape)


class MemberActor:
    """A Member in its own process. The arrays arrive as views of the node's shared memory."""

    def __init__(self, task: WorkerTask, *arrays: Any):
        there = iter(arrays)
        self._task = replace(task, train=_attach(task.train, there))
        if task.validation is not None:
            self._task = replace(self._task, validation=_attach(task.validation, there))
        self._pin = ExitStack()
        self._switchboard: Switchboard | None = None
        self._member: Member | None = None
        self._notice = TermNotice(lambda: self._member is not None)

    def introduce(self) -> Membership:
        """Say who this is."""
        pin_blas()
        node = ray.get_runtime_context().get_node_id()
        pid = os.getpid()
        return Membership(
            node=node if CAN_SHARE else f"{node}/{pid}",
            host=os.uname().nodename,
            pid=pid,
            probe=probe(self._task.model),
            started=read_start_time(pid),
        )

    def listen(self, secret: bytes, has_far: bool) -> dict[str, Any]:
        """Leave the former group, and listen for the members of a new one; where some are far, on Ray's address too."""
        if self._member is not None:
            self._member.close()
        self._member = None
        try:
            certificates = Certificates.from_environment()
        except ConfigError as error:
            raise ConfigError(f"on node {os.uname().nodename}: {error}") from None
        ip = ray.util.get_node_ip_address() if has_far or not CAN_SHARE else None
        self._switchboard = Switchboard(ip, secret, certificates)
        return self._switchboard.addresses

    def connect(self, rank: int, roster: Roster, server: ServerTask, state: TrainState) -> None:
        """Build the roles and link up with the other members; errors in the user's model are raised here."""
        assert self._switchboard is not None  # `listen` comes first
        self._pin.enter_context(self._task.model.pinned())  # for the rest of this process's life
        self._member = Member(rank, roster, self._task, server, state)
        pin_blas()  # the user's model may have brought a BLAS of its own
        self._member.connect(self._switchboard, state)

    def ping(self) -> None:
        """Return at once, which a process that hangs cannot do. May be called while another call runs."""

    def cut(self) -> None:
        """Leave the group, so that no call waits for other members any more. May be called while another call runs."""
        if self._switchboard is not None:
            self._switchboard.cut()
        if self._member is not None:
            self._member.cut()

    def run(
        self, orders: list[StepOrder], paces: tuple[float, ...] | None
    ) -> tuple[list[StepReport], Effort, float | None]:
        """Carry out consecutive steps, as Member.run does; also returns the seconds that this process has left.

        None: any number.
        """
        assert self._member is not None  # `connect` comes first
        return *self._member.run(orders, paces), self._notice.left_s

    def evaluate(self, shard: Shard) -> list[Sums]:
        """Return the sums over the evaluation chunks in `shard`."""
        assert self._member is not None
        return self._member.evaluate(shard)

    def snapshot(self) -> Snapshot | None:
        """Return a copy of this server's slice of the state; None when it is in no group."""
        return None if self._member is None else self._member.snapshot()

    def offers(self) -> dict[int, Offer]:
        """Return of which steps this member can give the state of which server's slice."""
        return {} if self._member is None else self._member.offers()

    def spare(self, rank: int, step: int) -> Snapshot | None:
        """Return a copy of the slice of the server of `rank` after `step` steps; None if it is not to be had."""
        return None if self._member is None else self._member.spare(rank, step)


def _attach(examples: Examples | Supply, arrays: Iterator[Any]) -> Examples | Supply:
    """Return the examples with the next four of the arrays; those that are read as they are needed have none."""
    if not isinstance(examples, Examples):
        return examples
    x, y, rows, weights = (array.open() if isinstance(array, MappedFile) else array for array in islice(arrays, 4))
    return replace(examples, x=x, y=y, rows=rows, weights=weights if len(weights) else None)
