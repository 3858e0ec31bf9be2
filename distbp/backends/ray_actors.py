"""Worker and ParameterServer as Ray actors: thin shells around the plain classes, wrapped late by ray.remote."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.nn.model import Sums
from distbp.nn.numerics import pin_blas, probe
from distbp.protocol.examples import Examples
from distbp.protocol.messages import (
    ServerTask,
    Shard,
    ShardResult,
    Snapshot,
    StepOrder,
    StepReport,
    TrainState,
    WorkerTask,
)
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Worker


@dataclass(frozen=True)
class MappedFile:
    """A memory-mapped .npy file, sent by name: every node maps it for itself and nobody copies it."""

    path: str
    shape: tuple[int, ...]

    def open(self) -> NDArray:
        """Return the mapped array."""
        array: NDArray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array.reshape(self.shape)


@dataclass(frozen=True)
class Membership:
    """Who joined: where the actor runs, and what its arithmetic's probe gives."""

    node: str
    pid: int
    probe: str


def join() -> Membership:
    """Pin BLAS in this process and say who it is."""
    pin_blas()
    return Membership(os.uname().nodename, os.getpid(), probe())


class WorkerActor:
    """A Worker in its own process. The arrays arrive as views of the node's shared memory."""

    def __init__(self, task: WorkerTask, *arrays: Any):
        self._task = replace(task, train=_attach(task.train, arrays[:3]))
        if task.validation is not None:
            self._task = replace(self._task, validation=_attach(task.validation, arrays[3:]))
        self._worker: Worker | None = None

    def join(self) -> Membership:
        """Build the worker and say who it is; errors in building it are raised here."""
        membership = join()
        self._worker = Worker(self._task)
        return membership

    def compute(self, parameters: NDArray, order: StepOrder, shard: Shard) -> ShardResult:
        """Return the partials of `shard`."""
        assert self._worker is not None  # the driver calls join first
        return self._worker.compute(parameters, order, shard)

    def evaluate(self, parameters: NDArray, shard: Shard) -> list[Sums]:
        """Return the sums over the evaluation chunks in `shard`."""
        assert self._worker is not None  # the driver calls join first
        return self._worker.evaluate(parameters, shard)


class ServerActor:
    """A ParameterServer in its own process."""

    def __init__(self, task: ServerTask, state: TrainState):
        self._server = ParameterServer(task, state)

    def join(self) -> Membership:
        """Say who it is."""
        return join()

    def parameters(self) -> NDArray:
        """Return the current parameters."""
        return self._server.parameters

    def commit(self, order: StepOrder, *results: ShardResult) -> tuple[StepReport, NDArray]:
        """Commit a step; the parameters go from here to the workers, and only the report to the driver."""
        return self._server.commit(order, results), self._server.parameters

    def snapshot(self) -> Snapshot:
        """Return a copy of the state."""
        return self._server.snapshot()


def _attach(examples: Examples, arrays: tuple[Any, ...]) -> Examples:
    x, y, rows = (array.open() if isinstance(array, MappedFile) else array for array in arrays)
    return replace(examples, x=x, y=y, rows=rows)
