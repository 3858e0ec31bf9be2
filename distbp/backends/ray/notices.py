"""Notices that a process, or the whole node below it, is about to be taken away: how they are heard, on both sides.

Two kinds: Ray says that a node drains, and until when (a cloud takes a machine back, Kubernetes ends a pod, an
autoscaler shrinks the cluster), or a worker's process gets SIGTERM. A node's own process that gets SIGTERM makes Ray
drain the node.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from distbp.backends.ray.internals import list_draining_nodes

GRACE_S = 10.0
"""How long a process works on after SIGTERM, unless it has left by then: what `docker stop` gives one, too."""
MARGIN_S = 5.0
"""Seconds before a known end at which a member leaves even if nobody can take its place yet."""
POLL_S = 1.0
RETRY_S = 10.0
QUESTION_TIMEOUT_S = 0.5
EXIT_CODE = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Departure:
    """Why something will be gone. at: when, by time.monotonic(); None: nobody has said."""

    reason: str
    at: float | None

    @property
    def is_near(self) -> bool:
        """Whether hardly any time is left."""
        return self.at is not None and self.at - time.monotonic() <= MARGIN_S

    def __str__(self) -> str:
        left = "" if self.at is None else f", {max(0.0, self.at - time.monotonic()):.0f} s left"
        return self.reason + left


class DrainWatch:
    """Asks Ray now and then which nodes drain; cheap enough to be asked all the time."""

    def __init__(self, list_nodes: Callable[[float], Mapping[str, float | None]] = list_draining_nodes):
        """list_nodes: returns the seconds left of every draining node, given how long the answer may take."""
        self._list_nodes = list_nodes
        self._next_question = 0.0
        self._departures: dict[str, Departure] = {}

    def departures(self) -> Mapping[str, Departure]:
        """Return the nodes that drain, by Ray's number of the node; the last answer while Ray gives none."""
        now = time.monotonic()
        if now >= self._next_question:
            try:
                self._note(self._list_nodes(QUESTION_TIMEOUT_S), now)
                self._next_question = now + POLL_S
            except Exception:  # Ray has a class for each kind of silence, and the run can do without an answer
                self._next_question = now + RETRY_S
        return self._departures

    def _note(self, draining: Mapping[str, float | None], now: float) -> None:
        for node, left_s in draining.items():
            at = None if left_s is None else now + left_s
            self._departures[node] = Departure("Ray drains its node", at)


class TermNotice:
    """SIGTERM as a notice: the process works on, so that its group can go on without it, and ends after GRACE_S.

    A second SIGTERM, or the first of a process that nobody needs, does what it did before.
    """

    def __init__(self, is_needed: Callable[[], bool]):
        """Listen, in the main thread; elsewhere nothing is heard."""
        self._is_needed = is_needed
        self._given_at: float | None = None
        self._before: Any = signal.SIG_DFL
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._hear)

    @property
    def left_s(self) -> float | None:
        """Seconds until this process ends; None while there is no notice."""
        return None if self._given_at is None else self._given_at + GRACE_S - time.monotonic()

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if self._given_at is None and self._is_needed():
            self._given_at = time.monotonic()
            threading.Thread(target=self._end_later, name="distbp-leaving", daemon=True).start()
        elif callable(self._before):
            self._before(signum, frame)
        else:
            os._exit(EXIT_CODE)

    def _end_later(self) -> None:
        time.sleep(GRACE_S)
        os._exit(EXIT_CODE)
