"""Processes that carry out calls, and are gone when the study is, in whatever way it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self

from distbp.nn.blas import pin_blas


class Executor(Protocol):
    """Where the calls of a study run."""

    size: int

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin call(*arguments) and return its future."""
        ...

    def check(self) -> None:
        """Raise an error if calls under way can never end."""
        ...

    def __enter__(self) -> Self:
        """Return self."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes; calls under way are abandoned."""
        ...


class LocalProcesses:
    """Local processes, one for each core, with BLAS on one thread each."""

    def __init__(self, size: int):
        self.size = size
        self._others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(size, mp_context=context, initializer=_prepare_process)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin call(*arguments) in one of the processes."""
        return self._executor.submit(call, *arguments)

    def check(self) -> None:
        """Do nothing: a process that ends breaks the futures of all."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        ours = [process for process in multiprocessing.active_children() if process not in self._others]
        for process in ours:
            process.kill()
        for process in ours:
            # The executor's thread waits for it too; whichever comes second is told of its end a moment later.
            while process.is_alive():
                process.join(0.01)


def _prepare_process() -> None:
    """Leave signals to the whole group to the parent, and end at once when it is gone, even by kill -9."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pin_blas()
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a child
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
