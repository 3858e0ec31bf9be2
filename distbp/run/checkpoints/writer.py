"""Writes checkpoints in the background, so that training waits neither for the disk nor for storage that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from distbp.run.checkpoints.checkpoint import Checkpoint
from distbp.run.checkpoints.store import CheckpointStore
from distbp.run.storage.backlog import WaitingCheckpoint


class CheckpointWriter:
    """Hands checkpoints to a store by way of the run's outbox, whose thread writes them and notes each as an event.

    A newer one replaces those that wait, so that slow or absent storage gets fewer checkpoints and does not slow
    training; only a waiting best one is kept until a better one comes. What storage refuses is tried again until
    close(), which gives up in the end. The tensors of a submitted checkpoint must stay unchanged until it is
    written. Nothing else may save to the store, and loading wants a wait() first.
    """

    def __init__(self, store: CheckpointStore, saved_step: int = 0) -> None:
        """saved_step: the newest step that is on storage already, 0 if there is none."""
        self._store = store
        self._outbox = store.run.outbox
        self._first_step = saved_step
        self._is_closed = False

    @property
    def saved_step(self) -> int:
        """The newest step that is on storage, 0 if there is none."""
        return max(self._first_step, self._outbox.saved_step)

    def submit(self, checkpoint: Checkpoint, best: bool = False) -> None:
        """Have a checkpoint written soon; returns at once. Raises a StorageError that no retry can mend."""
        if self._is_closed:
            raise ValueError("submit() after close(); submit before closing, or make a new CheckpointWriter")
        self._outbox.submit(WaitingCheckpoint(checkpoint, best, self._store))

    @property
    def newest_waiting(self) -> Checkpoint | None:
        """The newest submitted checkpoint that is not on storage yet, None if all are."""
        waiting = self._outbox.newest_waiting
        return None if waiting is None else waiting.checkpoint

    @property
    def is_refused(self) -> bool:
        """Whether storage refuses everything at present."""
        return self._outbox.is_refused

    def wait_for_step(self, step: int, timeout_s: float) -> bool:
        """Return whether a checkpoint of `step` or later is on storage, waiting up to `timeout_s` seconds for it.

        Does not wait while storage refuses.
        """
        return self.saved_step >= step or self._outbox.wait_for(lambda: self.saved_step >= step, timeout_s)

    def wait(self, must_end: Callable[[], bool] = lambda: False) -> None:
        """Return when everything submitted is on storage; must_end, StorageError: like Outbox.wait()."""
        self._outbox.wait(must_end)

    def close(self, must_end: Callable[[], bool] = lambda: False) -> None:
        """Write what waits, end the thread; like wait()."""
        self._is_closed = True
        self._outbox.close(must_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
