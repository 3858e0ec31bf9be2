"""Which worker and which server a task asks for: those of single steps, or those of rounds."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import NDArray

from distbp.protocol.messages import ServerTask, TrainState, WorkerTask
from distbp.protocol.outer_server import OuterServer
from distbp.protocol.replica import RoundWorker, go_on
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Allocate, Worker

AnyWorker = Worker | RoundWorker
AnyServer = ParameterServer | OuterServer


def make_worker(task: WorkerTask, allocate: Allocate | None = None, check: Callable[[], None] = go_on) -> AnyWorker:
    """Return the worker for a task. check: is called within rounds, and may end them by raising."""
    return Worker(task, allocate) if task.rounds is None else RoundWorker(task, allocate, check)


def make_server(task: ServerTask, state: TrainState, offset: int = 0, memory: NDArray | None = None) -> AnyServer:
    """Return the server for a task, standing at `state`."""
    return (ParameterServer if task.outer is None else OuterServer)(task, state, offset, memory)
