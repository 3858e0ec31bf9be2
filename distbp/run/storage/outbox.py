"""The one thread that writes to a run's folder while it is trained: log lines first, then checkpoints.

Training never waits for storage. While storage is full, read-only or unreachable, lines gather in memory, newer
checkpoints replace older ones that wait, and the thread tries again, later and later, with one warning an outage.
Only wait() and close() wait, and give up in the end (`Folder.patience_s`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from distbp.errors import CheckpointError, StorageError
from distbp.run.records import EVENTS_FILE, encode_event
from distbp.run.storage.backlog import Backlog, Rescue, WaitingCheckpoint
from distbp.run.storage.folder import Folder

logger = logging.getLogger("distbp")

MAX_SHARE_OF_TIME = 0.05  # an object store rewrites the whole log: rarer flushes keep that cheap as the log grows
MAX_SHARE_WHEN_BEHIND = 0.2  # of checkpoints, where storage cannot keep up anyway: its client takes our time too
FIRST_RETRY_S = 0.25
MAX_RETRY_S = 15.0
MAX_RETRY_AT_END_S = 1.0
RESCUE_AFTER_S = 15.0  # without progress at the end, the state is saved elsewhere too
MAX_SILENCE_S = 600.0  # without progress and without an error, storage counts as lost


@dataclass(frozen=True)
class Outage:
    """A time during which storage refuses everything; seconds are those of time.monotonic()."""

    error: StorageError
    since: float
    num_attempts: int
    tried_at: float

    @property
    def retry_at(self) -> float:
        """When to try again."""
        return self.tried_at + min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self.num_attempts, 10))

    def describe(self) -> str:
        """Return the error with how often and how long it was met."""
        return f"{self.error} (tried {self.num_attempts} times in {time.monotonic() - self.since:.0f} s)"


class Outbox:
    """Writes to one run's folder from a background thread, which starts when it is needed and ends with close().

    check_lock: raises CheckpointError once the run belongs to another driver; then nothing is written any more.
    saved_step: the newest step of which this outbox has written a checkpoint, 0 if there is none.
    Every method but `wait_for` raises, from then on, the StorageError of what no retry can mend: a lost lock, a
    defect, or storage that was given up.
    """

    def __init__(self, folder: Folder, check_lock: Callable[[], None]) -> None:
        self._folder = folder
        self._check_lock = check_lock
        self._changed = threading.Condition()
        self._backlog = Backlog()
        self._outage: Outage | None = None
        self._end: StorageError | None = None
        self._is_awaited = False
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._next_flush = 0.0
        self._next_checkpoint = 0.0
        self._progress_at = 0.0
        self.saved_step = 0

    def append(self, name: str, line: bytes, at_once: bool) -> None:
        """Have a line appended to the file `name`: soon, or within the folder's flush interval."""
        with self._changed:
            self._raise_end()
            was_empty = not self._backlog
            self._backlog.add_line(name, line, at_once)
            if was_empty or at_once:  # else the thread knows already when to look
                self._wake_thread()

    def submit(self, checkpoint: WaitingCheckpoint) -> None:
        """Have a checkpoint written soon, after the lines so far; it replaces older ones that wait."""
        with self._changed:
            self._raise_end()
            self._backlog.add_checkpoint(checkpoint)
            self._wake_thread()

    @property
    def newest_waiting(self) -> WaitingCheckpoint | None:
        """The newest checkpoint that is not on storage yet."""
        with self._changed:
            return self._backlog.newest_checkpoint

    @property
    def is_refused(self) -> bool:
        """Whether storage refuses everything at present."""
        return self._outage is not None

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Return whether `condition`, which may change when something is written, holds within `timeout_s` seconds.

        Does not wait while storage refuses.
        """
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._outage is not None or self._end is not None, timeout_s)
            return condition()

    def wait(self, must_end: Callable[[], bool] = lambda: False) -> None:
        """Return when everything is on storage.

        must_end: is asked again and again whether to give up at once, after the newest checkpoint was saved elsewhere.
        If storage refuses, the newest checkpoint is saved elsewhere at once, in case this process is not given the
        time that storage is: `Folder.patience_s`.
        """
        began = time.monotonic()
        rescue: Rescue | None = None
        with self._changed:
            self._is_awaited = True
            self._wake_thread()
        try:
            while not self._is_settled(0.1):
                is_hurried = must_end()
                if rescue is None and (is_hurried or self._is_in_trouble(began)):
                    rescue = self._rescue()
                    if not is_hurried:
                        logger.warning(
                            "waiting %.0f s for storage, or until the next signal; until then: %s",
                            self._folder.patience_s, rescue.sentence,
                        )  # fmt: skip
                if rescue is not None and (is_hurried or self._is_out_of_patience(began)):
                    self._give_up(rescue, is_hurried)
        finally:
            with self._changed:
                self._is_awaited = False
        with self._changed:
            self._raise_end()
        if rescue is not None:
            rescue.discard()

    def close(self, must_end: Callable[[], bool] = lambda: False) -> None:
        """Like wait(), and end the thread; it starts again if the outbox is used again."""
        try:
            self.wait(must_end)
        finally:
            self._end_thread()

    def _raise_end(self) -> None:
        """Only with the condition held, like all methods that say nothing else."""
        if self._end is not None:
            raise self._end

    def _wake_thread(self) -> None:
        if self._thread is None and self._backlog:
            self._thread = threading.Thread(target=self._run, name="run-outbox", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _end_thread(self) -> None:
        with self._changed:
            self._is_closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(MAX_RETRY_AT_END_S)  # one that hangs in a call to storage is left behind: it is a daemon
        with self._changed:
            self._is_closing = False

    def _is_settled(self, timeout_s: float) -> bool:
        """Return whether nothing waits or nothing more can be done, within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._backlog or self._end is not None, timeout_s)

    def _is_in_trouble(self, began: float) -> bool:
        return self._outage is not None or time.monotonic() - max(began, self._progress_at) > RESCUE_AFTER_S

    def _is_out_of_patience(self, began: float) -> bool:
        outage, now = self._outage, time.monotonic()
        if outage is not None:
            return now - max(began, outage.since) > self._folder.patience_s
        return now - max(began, self._progress_at) > MAX_SILENCE_S

    def _rescue(self) -> Rescue:
        with self._changed:
            waiting, lines = self._backlog.newest_checkpoint, self._backlog.lines
        if waiting is None:
            return Rescue("every checkpoint is there, only the last lines of the logs are missing")
        return waiting.destination.rescue(waiting.checkpoint, waiting.is_best, lines)

    def _give_up(self, rescue: Rescue, is_hurried: bool) -> None:
        with self._changed:
            outage = self._outage
            why = "a signal ended the wait" if is_hurried else f"no answer for {MAX_SILENCE_S:.0f} s; check the storage"
            silence = f"cannot write to '{self._folder.url}': {why}"
            error = StorageError(f"{silence if outage is None else outage.describe()}; {rescue.sentence}")
            error.__cause__ = None if outage is None else outage.error
            self._finish(error)

    def _finish(self, error: StorageError) -> None:
        """Drop what waits: nothing may be written after the run's lock is released."""
        self._end = error
        self._backlog = Backlog()
        self._outage = None
        self._changed.notify_all()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._check_lock()
                self._deliver()
            except CheckpointError as error:  # the lock was lost: this driver must not write any more
                self._stop(error)
            except StorageError as error:
                self._note_outage(error)
            except Exception as error:  # a thread has no caller: whatever it was must reach close()
                self._stop(StorageError(f"cannot write to '{self._folder.url}': {error!r}; see its cause"), error)
            else:
                self._note_success()

    def _wait_for_work(self) -> bool:
        """Return True when something is due, False when the thread is to end."""
        with self._changed:
            while not self._is_closing:
                due = self._find_due_time()
                now = time.monotonic()
                if due is not None and due <= now:
                    return True
                self._changed.wait(None if due is None else due - now)
            self._thread = None
            return False

    def _find_due_time(self) -> float | None:
        if not self._backlog:
            return None
        if self._outage is not None:
            soon = self._outage.tried_at + MAX_RETRY_AT_END_S
            return min(self._outage.retry_at, soon) if self._is_awaited else self._outage.retry_at
        if self._is_awaited or self._backlog.has_urgent_lines:
            return 0.0
        if self._backlog.oldest_checkpoint is None:
            return self._next_flush
        return min(self._next_flush, self._checkpoint_due())

    def _checkpoint_due(self) -> float:
        return self._next_checkpoint if self._backlog.is_behind and not self._is_awaited else 0.0

    def _deliver(self) -> None:
        """Write what failed the last time, then all lines, then, if it is due, the oldest checkpoint that waits."""
        began = time.monotonic()
        backlog = self._backlog
        self._append_lines(backlog)
        with self._changed:
            backlog.take_lines()
            waiting = backlog.oldest_checkpoint  # taken together: no checkpoint may be ahead of its lines
            is_due = began >= self._checkpoint_due()
        self._append_lines(backlog)
        now = time.monotonic()
        self._next_flush = now + max(self._folder.flush_interval_s, (now - began) / MAX_SHARE_OF_TIME)
        if waiting is not None and is_due:
            waiting.destination.save(waiting.checkpoint, waiting.is_best)
            done = time.monotonic()
            self._next_checkpoint = done + (done - now) * (1 / MAX_SHARE_WHEN_BEHIND - 1)
            self._confirm(backlog, waiting)

    def _confirm(self, backlog: Backlog, written: WaitingCheckpoint) -> None:
        """Note that a checkpoint is complete on storage, in the log of events too."""
        checkpoint = written.checkpoint
        event = encode_event("checkpoint", step=checkpoint.step, digest=checkpoint.digest)
        with self._changed:
            self.saved_step = max(self.saved_step, checkpoint.step)
            backlog.confirm_checkpoint(written)
            backlog.add_line(EVENTS_FILE, event, urgent=True)

    def _append_lines(self, backlog: Backlog) -> None:
        for name, content in backlog.lines_in_flight.items():
            self._folder.append(name, content)
            with self._changed:
                backlog.confirm_lines(name)
                self._progress_at = time.monotonic()

    def _note_success(self) -> None:
        with self._changed:
            outage, self._outage = self._outage, None
            self._progress_at = time.monotonic()
            self._changed.notify_all()
            if outage is None or self._end is not None:
                return
            num_lost = self._backlog.count_dropped()
            self._backlog.add_line(EVENTS_FILE, _encode_recovery(outage, num_lost), urgent=True)
        lost = f"; {num_lost:,} log lines were more than could wait and are lost" if num_lost else ""
        logger.info("'%s' can be written again after %.1f s%s", self._folder.url, time.monotonic() - outage.since, lost)

    def _note_outage(self, error: StorageError) -> None:
        now = time.monotonic()
        with self._changed:
            if self._end is not None:  # it was given up meanwhile
                return
            before = self._outage
            if before is None:
                self._outage = Outage(error, now, 1, now)
            else:
                self._outage = replace(before, error=error, num_attempts=before.num_attempts + 1, tried_at=now)
            self._changed.notify_all()
        if before is None:
            logger.warning("%s; training goes on, and writing is tried again until it works", error)

    def _stop(self, error: StorageError, cause: Exception | None = None) -> None:
        error.__cause__ = cause or error.__cause__
        with self._changed:
            self._finish(error)


def _encode_recovery(outage: Outage, num_lost: int) -> bytes:
    return encode_event(
        "storage_recovered",
        seconds=round(time.monotonic() - outage.since, 3),
        attempts=outage.num_attempts + 1,
        reason=str(outage.error),
        lost_lines=num_lost,
    )
