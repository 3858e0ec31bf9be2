"""Which worker and which server a task asks for: those of single steps, or those of rounds."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import NDArray

from distbp.protocol.messages import ServerTask, TrainState, WorkerTask
from distbp.protocol.outer_server import OuterServer
from distbp.protocol.replica import RoundWorker, go_on
from distbp.protocol.server import Keeper, ParameterServer
from distbp.protocol.worker import Allocate, Worker

AnyWorker = Worker | RoundWorker
AnyServer = ParameterServer | OuterServer


def make_worker(task: WorkerTask, allocate: Allocate | None = None, check: Callable[[], None] = go_on) -> AnyWorker:
    """Return the worker for a task. check: is called within rounds, and may end them by raising."""
    return Worker(task, allocate) if task.rounds is None else RoundWorker(task, allocate, check)


def make_server(
    task: ServerTask,
    state: TrainState,
    offset: int = 0,
    memory: NDArray | None = None,
    keeper: Keeper | None = None,
) -> AnyServer:
    """Return the server for a task, standing at `state`. keeper: for single steps; rounds go without."""
    if task.outer is not None:
        assert keeper is None  # a round is committed too rarely for its state to be kept twice
        return OuterServer(task, state, offset, memory)
    return ParameterServer(task, state, offset, memory, keeper)
