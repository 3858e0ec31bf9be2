"""What waits to be written to a run's folder: log lines by file, and checkpoints. No threads, no storage."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from distbp.errors import StorageError
from distbp.run.checkpoints.checkpoint import Checkpoint
from distbp.run.storage.folder import Folder

MAX_LINES_BYTES = 128 << 20
"""Bytes of log lines that may wait: some 600,000 steps."""


@dataclass(frozen=True, eq=False)
class Rescue:
    """An attempt to save elsewhere what storage refuses.

    sentence: says where it is and how to go on from it. folder: what was made for it; None if nothing was.
    """

    sentence: str
    folder: Folder | None = None

    def discard(self) -> None:
        """Remove it: storage has everything after all."""
        if self.folder is not None:
            with suppress(StorageError):
                self.folder.parent.remove(self.folder.name)


class Destination(Protocol):
    """Where checkpoints belong."""

    def save(self, checkpoint: Checkpoint, best: bool) -> None:
        """Write a checkpoint there; raises StorageError."""
        ...

    def rescue(self, checkpoint: Checkpoint, best: bool, lines: Mapping[str, bytes]) -> Rescue:
        """Write a checkpoint and waiting log lines, by file name, somewhere else."""
        ...


@dataclass(frozen=True, eq=False)
class WaitingCheckpoint:
    """A checkpoint to write, and where."""

    checkpoint: Checkpoint
    is_best: bool
    destination: Destination


class Backlog:
    """Lines and checkpoints that wait. num_dropped: lines that were more than may wait.

    is_behind: whether the newest checkpoint took the place of one that storage had no time for.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[bytes]] = {}
        self._in_flight: dict[str, bytes] = {}
        self._checkpoints: list[WaitingCheckpoint] = []
        self._num_bytes = 0
        self._has_urgent_lines = False
        self.num_dropped = 0
        self.is_behind = False

    def __bool__(self) -> bool:
        return bool(self._waiting or self._in_flight or self._checkpoints)

    @property
    def has_urgent_lines(self) -> bool:
        """Whether a line should not wait for the next regular flush."""
        return self._has_urgent_lines

    @property
    def oldest_checkpoint(self) -> WaitingCheckpoint | None:
        """The checkpoint to write next."""
        return self._checkpoints[0] if self._checkpoints else None

    @property
    def newest_checkpoint(self) -> WaitingCheckpoint | None:
        """The checkpoint that was added last."""
        return self._checkpoints[-1] if self._checkpoints else None

    @property
    def lines(self) -> dict[str, bytes]:
        """All lines, by file name."""
        names = self._in_flight.keys() | self._waiting.keys()
        return {name: self._in_flight.get(name, b"") + b"".join(self._waiting.get(name, ())) for name in names}

    def add_line(self, name: str, line: bytes, urgent: bool) -> None:
        """Add a line for the file `name`; it is dropped and counted if too much waits already."""
        if self._num_bytes + len(line) > MAX_LINES_BYTES:
            self.num_dropped += 1
            return
        self._waiting.setdefault(name, []).append(line)
        self._num_bytes += len(line)
        self._has_urgent_lines |= urgent

    def add_checkpoint(self, waiting: WaitingCheckpoint) -> None:
        """Add a checkpoint in place of all that wait, but for a best one that this one does not outdo."""
        kept = [other for other in self._checkpoints if other.is_best and not waiting.is_best]
        self.is_behind = len(kept) < len(self._checkpoints)
        self._checkpoints = [*kept, waiting]

    @property
    def lines_in_flight(self) -> dict[str, bytes]:
        """What was taken and not confirmed: to be tried again unchanged, because the append may have been done."""
        return dict(self._in_flight)

    def take_lines(self) -> None:
        """Put all waiting lines in flight, where none may be."""
        assert not self._in_flight
        self._has_urgent_lines = False
        self._in_flight = {name: b"".join(lines) for name, lines in self._waiting.items()}
        self._waiting.clear()

    def confirm_lines(self, name: str) -> None:
        """Forget the lines in flight to the file `name`: they are written."""
        self._num_bytes -= len(self._in_flight.pop(name))

    def confirm_checkpoint(self, written: WaitingCheckpoint) -> None:
        """Forget a checkpoint: it is written."""
        self._checkpoints = [other for other in self._checkpoints if other is not written]

    def count_dropped(self) -> int:
        """Return how many lines were dropped since the last call."""
        num_dropped, self.num_dropped = self.num_dropped, 0
        return num_dropped
