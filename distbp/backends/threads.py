"""Threads that take one round of calls at a time: to hand one over costs a few microseconds, with a future forty."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class ThreadTeam:
    """`size` threads, the caller's among them."""

    def __init__(self, size: int):
        self._inboxes: list[SimpleQueue[Callable[[], Any] | None]] = [SimpleQueue() for _ in range(size - 1)]
        self._outboxes: list[SimpleQueue[tuple[Any, BaseException | None]]] = [SimpleQueue() for _ in self._inboxes]
        self._threads = [
            threading.Thread(target=_serve, args=boxes, name="distbp-worker", daemon=True)
            for boxes in zip(self._inboxes, self._outboxes, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Return what the calls return, in order; at most `size` of them, each in its own thread.

        Raises what the first of them to fail raised, when all have ended.
        """
        first, *others = calls
        for inbox, call in zip(self._inboxes, others, strict=False):
            inbox.put(call)
        outcomes = [_outcome(first), *(outbox.get() for outbox, _ in zip(self._outboxes, others, strict=False))]
        for _, error in outcomes:
            if error is not None:
                raise error
        return [value for value, _ in outcomes]

    def close(self) -> None:
        """End the threads."""
        for inbox in self._inboxes:
            inbox.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []


def _serve(inbox: SimpleQueue[Callable[[], Any] | None], outbox: SimpleQueue[tuple[Any, BaseException | None]]) -> None:
    while (call := inbox.get()) is not None:
        outbox.put(_outcome(call))


def _outcome(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # it is raised again in the caller's thread
        return None, error
