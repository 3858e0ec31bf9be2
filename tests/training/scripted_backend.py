"""A backend without processes whose group is lost, grows, or is too small when a script says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from distbp.backends.base import Note, Shortage, never
from distbp.backends.local import LocalBackend
from distbp.protocol.messages import Snapshot, StepOrder, StepReport
from distbp.protocol.recovery import GroupLostError


@dataclass
class Script:
    """What is going to happen, as mutable lists from which happened things are removed.

    lose_at: numbers of commits (over the whole run, repeated ones too) before which the group is lost. servers_live:
    whether the state can be rescued then. lose_in: names of methods whose next call loses the group.
    shortages: how many calls of `start` find too few workers. grow_at: commits after which a worker more is there.
    """

    lose_at: list[int] = field(default_factory=list)
    servers_live: bool = True
    lose_in: list[str] = field(default_factory=list)
    shortages: int = 0
    grow_at: list[int] = field(default_factory=list)
    minimums: list[int] = field(default_factory=list)
    num_commits: int = 0


class ScriptedBackend(LocalBackend):
    """Workers are threads; only what the script says makes it differ."""

    def __init__(self, num_workers: int, script: Script):
        super().__init__(num_workers)
        self._script = script
        self._lost: Snapshot | None = None
        self._has_new_worker = False

    def start(self, worker, server, state, minimum=1):
        self._script.minimums.append(minimum)
        self._maybe_lose("start")
        if self._script.shortages:
            self._script.shortages -= 1
            return Shortage(minimum - 1, minimum, "the cluster is small")
        self.num_workers += self._has_new_worker
        self._has_new_worker = False
        return super().start(worker, server, state)

    def admit(self) -> bool:
        return self._has_new_worker

    def run(self, orders: Iterator[StepOrder], abandon=never) -> Iterator[StepReport]:
        yield from super().run(self._until_news(orders), abandon)

    def _until_news(self, orders: Iterator[StepOrder]) -> Iterator[StepOrder]:
        for order in orders:
            if self._script.num_commits in self._script.lose_at:
                self._script.lose_at.remove(self._script.num_commits)
                self._lose("run")
            yield order
            self._script.num_commits += 1
            if self._script.num_commits in self._script.grow_at:
                self._has_new_worker = True
                return

    def evaluate(self):
        self._maybe_lose("evaluate")
        return super().evaluate()

    def snapshot(self):
        self._maybe_lose("snapshot")
        return super().snapshot()

    def rescue(self) -> Snapshot | None:
        return self._lost if self._script.servers_live else None

    def take_notes(self) -> list[Note]:
        return []

    def _maybe_lose(self, method: str) -> None:
        if method in self._script.lose_in:
            self._script.lose_in.remove(method)
            self._lose(method)

    def _lose(self, method: str) -> None:
        self._lost = None if method == "start" else super().snapshot()
        raise GroupLostError(f"lost worker 1 in {method}", self.num_workers - 1)
