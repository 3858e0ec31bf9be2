"""Writes checkpoints in one background thread, so that training does not wait for the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from distbp.errors import StorageError
from distbp.run.checkpoint import Checkpoint
from distbp.run.store import CheckpointStore


class CheckpointWriter:
    """Hands checkpoints to a store from a background thread.

    At most one waits while one is being written. A newer one replaces the waiting one, so that slow storage gets
    fewer checkpoints and does not slow training; only a waiting best one is never dropped for one that is not:
    then submit() waits. An error is kept and raised, once, by the next submit(), wait() or close().
    The tensors of a submitted checkpoint must stay unchanged until it is written. Nothing else may save to the
    store, and loading wants a wait() first.
    """

    def __init__(self, store: CheckpointStore, on_saved: Callable[[Checkpoint], None] | None = None) -> None:
        """on_saved: is called, in the writer's thread, with each checkpoint that is complete on storage."""
        self._store = store
        self._on_saved = on_saved
        self._condition = threading.Condition()
        self._waiting: tuple[Checkpoint, bool] | None = None
        self._is_writing = False
        self._is_closed = False
        self._error: StorageError | None = None
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Seconds spent writing so far, beside the training."""
        return self._seconds

    def submit(self, checkpoint: Checkpoint, best: bool = False) -> None:
        """Have a checkpoint written soon; returns at once unless a best one is waiting that this may not replace."""
        with self._condition:
            self._raise_error()
            if self._is_closed:
                raise ValueError("submit() after close(); submit before closing, or make a new CheckpointWriter")
            self._condition.wait_for(lambda: best or self._waiting is None or not self._waiting[1])
            self._waiting = (checkpoint, best)
            self._condition.notify_all()

    def wait(self) -> None:
        """Return when everything submitted is on storage; raises the StorageError of what could not be written."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting is None and not self._is_writing)
            self._raise_error()

    def close(self) -> None:
        """Write what waits, end the thread; raises like wait()."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
        self._thread.join()
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting is not None or self._is_closed)
                if self._waiting is None:
                    return
                (checkpoint, best), self._waiting, self._is_writing = self._waiting, None, True
                self._condition.notify_all()
            error = self._write(checkpoint, best)
            del checkpoint  # its memory need not wait for the next one
            with self._condition:
                self._error = self._error or error
                self._is_writing = False
                self._condition.notify_all()

    def _write(self, checkpoint: Checkpoint, best: bool) -> StorageError | None:
        started = time.monotonic()
        try:
            self._store.save(checkpoint, best)
            if self._on_saved is not None:
                self._on_saved(checkpoint)
        except StorageError as error:
            return error
        except Exception as error:  # a thread has no caller: whatever it was must reach close()
            return StorageError(f"cannot write the checkpoint of step {checkpoint.step}: {error!r}; see its cause")
        finally:
            self._seconds += time.monotonic() - started
        return None

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
