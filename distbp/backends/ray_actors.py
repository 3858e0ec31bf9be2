"""A Member as a Ray actor: a thin shell around the plain class, wrapped late by ray.remote."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from distbp.backends.links import CAN_SHARE, Switchboard
from distbp.backends.member import Member
from distbp.backends.roster import Membership, Roster
from distbp.nn.model import Sums
from distbp.nn.numerics import pin_blas, probe
from distbp.protocol.examples import Examples
from distbp.protocol.messages import ServerTask, Shard, Snapshot, StepOrder, StepReport, TrainState, WorkerTask


@dataclass(frozen=True)
class MappedFile:
    """A memory-mapped .npy file, sent by name: every node maps it for itself and nobody copies it."""

    path: str
    shape: tuple[int, ...]

    def open(self) -> NDArray:
        """Return the mapped array."""
        array: NDArray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array.reshape(self.shape)


class MemberActor:
    """A Member in its own process. The arrays arrive as views of the node's shared memory."""

    def __init__(self, task: WorkerTask, *arrays: Any):
        self._task = replace(task, train=_attach(task.train, arrays[:3]))
        if task.validation is not None:
            self._task = replace(self._task, validation=_attach(task.validation, arrays[3:]))

    def join(self, secret: bytes) -> Membership:
        """Say who this is and listen for the other members, on the address that Ray uses."""
        pin_blas()
        context = ray.get_runtime_context()
        self._switchboard = Switchboard(ray.util.get_node_ip_address(), secret)
        node = context.get_node_id()
        return Membership(
            node=node if CAN_SHARE else f"{node}/{os.getpid()}",
            host=os.uname().nodename,
            pid=os.getpid(),
            probe=probe(),
            addresses=self._switchboard.addresses,
        )

    def connect(self, rank: int, roster: Roster, server: ServerTask, state: TrainState) -> None:
        """Build the roles and link up with the other members; errors in the user's model are raised here."""
        self._member = Member(rank, roster, self._task, server, state)
        self._member.connect(self._switchboard, state)

    def run(self, orders: list[StepOrder]) -> list[StepReport]:
        """Carry out consecutive steps."""
        return self._member.run(orders)

    def evaluate(self, shard: Shard) -> list[Sums]:
        """Return the sums over the evaluation chunks in `shard`."""
        return self._member.evaluate(shard)

    def snapshot(self) -> Snapshot | None:
        """Return a copy of this server's slice of the state."""
        return self._member.snapshot()


def _attach(examples: Examples, arrays: tuple[Any, ...]) -> Examples:
    x, y, rows = (array.open() if isinstance(array, MappedFile) else array for array in arrays)
    return replace(examples, x=x, y=y, rows=rows)
