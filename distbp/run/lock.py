"""One driver at a time: lock.json in the run's folder, kept alive by a heartbeat."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from distbp.errors import CheckpointError, RunTakenError, StorageError
from distbp.run.owner import STALE_AFTER_S, LockOwner, Sign
from distbp.run.storage.folder import Folder, remove_temporaries

logger = logging.getLogger("distbp")

LOCK_FILE = "lock.json"
HEARTBEAT_S = 5.0
RELEASE_TIMEOUT_S = 5.0
MAX_ANSWER_S = 10.0
"""What storage answered later than that is asked again: this process may have been stopped meanwhile."""
MAX_TRIES = 3


def is_driver_alive(folder: Folder) -> bool:
    """Return whether a living driver, this process included, holds the lock of the run in `folder`."""
    owner = LockOwner.decode(folder.read(LOCK_FILE))
    observer = LockOwner.of_this_process(folder.identity)
    return owner is not None and owner.examine(observer) is Sign.ALIVE


class RunLock:
    """The right to write to a run; `with run.lock():` holds it.

    A lock whose process is gone is taken over at once. One from another machine is watched: a heartbeat says that its
    driver lives, and 60 s without one that it has died, so that a run goes on by itself when its node is lost. One
    that seems older is watched for two heartbeats, so that clocks that differ cannot cost a living driver its run.
    On local filesystems two processes never both get it. On object stores that depends on the store's
    create-if-absent; without it there is a window of one round trip.
    """

    def __init__(self, folder: Folder, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._folder = folder
        self._heartbeat_s = heartbeat_s
        self._owner = LockOwner.of_this_process(folder.identity)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_written = False
        self._is_lost = False

    @property
    def is_held(self) -> bool:
        """Whether it was acquired, not released and, as far as is known, not lost."""
        return self._thread is not None and not self._is_lost

    def acquire(self) -> None:
        """Take the lock; raises RunTakenError naming the process that has it."""
        silent = self._try_to_acquire(tolerated=self._outwait_far_driver())
        if silent is not None:
            time.sleep(2 * self._heartbeat_s)
            still_there = self._try_to_acquire(tolerated=silent)
            if still_there is not None:
                raise self._make_error(still_there)

    def _outwait_far_driver(self) -> LockOwner | None:
        """Return the driver on another machine that has fallen silent while watched; None if there is none to watch.

        Raises RunTakenError at its next sign of life.
        """
        seen = LockOwner.decode(self._folder.read(LOCK_FILE))
        if seen is None or seen.is_near(self._owner) or seen.examine(self._owner.refresh()) is not Sign.ALIVE:
            return None
        logger.info(
            "'%s' was in use by %s; waiting up to %.0f s for its next sign of life",
            self._folder.url,
            seen.describe(observer=self._owner.refresh()),
            STALE_AFTER_S,
        )
        while seen.examine(observer=self._owner.refresh()) is Sign.ALIVE:
            time.sleep(self._heartbeat_s)
            now = LockOwner.decode(self._folder.read(LOCK_FILE))
            if now is None:
                return None
            if now != seen:
                raise self._make_error(now)
        return seen

    def check(self) -> None:
        """Raise CheckpointError if another driver took this lock, which needs silence or a removed file."""
        if self._is_lost:
            raise self._make_loss()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Enter around each change of the run: what a driver does that was replaced, even unawares, must not happen.

        A driver may have been stopped for an hour between any two of its instructions. So storage itself is asked
        whose the run is, and on local filesystems the run cannot be taken over inside: taking it needs the same flock.
        Object stores have none; there a driver that is stopped between the answer and its next request, some
        microseconds, still makes that one request.

        Raises CheckpointError if the run belongs to another driver, StorageError if that cannot be found out.
        """
        self.check()
        with ExitStack() as stack:
            if self._is_written:
                with suppress(StorageError):  # a stranger has the flock: nobody can have taken the run over since
                    stack.enter_context(self._folder.exclusively())
                self._expect_ours()
            yield

    def release(self) -> None:
        """Give the lock back; never removes another driver's lock. If storage hangs, the lock stays and grows old."""
        if self._thread is None:
            return
        if not self._end_heartbeat():
            return
        self._is_written = False
        with self._folder.exclusively():
            if self._is_ours():
                self._folder.remove(LOCK_FILE)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(StorageError):  # a lock that cannot be removed goes stale; what ended the run matters more
            self.release()

    def _try_to_acquire(self, tolerated: LockOwner | None) -> LockOwner | None:
        """Take the lock and return None, or return its silent owner; `tolerated`: a silent one to take it from."""
        with self._folder.exclusively():
            self._owner = self._owner.refresh()
            content = self._folder.read(LOCK_FILE)
            silent = self._find_silent_owner(content)
            if silent is not None and silent != tolerated:
                return silent
            self._start_heartbeat()
            try:
                self._write_lock(replaces=content is not None)
            except BaseException:
                self._end_heartbeat()
                raise
            return None

    def _write_lock(self, replaces: bool) -> None:
        if replaces:  # else another driver's may have appeared meanwhile, where folders have no locks
            self._folder.remove(LOCK_FILE)
        self._folder.write_new(LOCK_FILE, self._owner.encode())
        if not self._is_ours():
            raise self._make_error(LockOwner.decode(self._folder.read(LOCK_FILE)))
        self._is_written = True
        remove_temporaries(self._folder)

    def _start_heartbeat(self) -> None:
        """Called before the lock is written: within this process a lock without this thread counts as dead."""
        self._stop = threading.Event()  # a new one: the thread of a lock that storage kept may still hang
        self._is_written = self._is_lost = False
        self._thread = threading.Thread(
            target=self._keep_alive, args=[self._stop], name=self._owner.thread_name, daemon=True
        )
        self._thread.start()

    def _end_heartbeat(self) -> bool:
        """Return whether its thread ended, which it does not while storage hangs."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._stop.set()
        thread.join(RELEASE_TIMEOUT_S)
        return not thread.is_alive()

    def _find_silent_owner(self, content: bytes | None) -> LockOwner | None:
        """Return the owner if it is silent, None if it is dead or there is none; raises CheckpointError if it lives."""
        owner = LockOwner.decode(content)
        sign = Sign.DEAD if owner is None else owner.examine(observer=self._owner)
        if sign is Sign.ALIVE:
            raise self._make_error(owner)
        return owner if sign is Sign.SILENT else None

    def _keep_alive(self, stop: threading.Event) -> None:
        while not stop.wait(self._heartbeat_s) and not self._is_lost:
            with suppress(StorageError), self._folder.exclusively():  # passing trouble: the next beat tries again
                if self._is_written:
                    self._beat()

    def _beat(self) -> None:
        content = self._expect_ours()
        self._owner = self._owner.refresh()
        self._folder.write_over(LOCK_FILE, content, self._owner.encode())  # if it has just changed: see the next beat

    def _expect_ours(self) -> bytes:
        """Return the content of the lock. Raises CheckpointError if another has it, StorageError if all is away."""
        content = self._read_own()
        if content is not None:
            return content
        if not self._folder.names():
            raise StorageError(f"cannot write to '{self._folder.url}': it does not exist; check the storage")
        self._is_lost = True
        raise self._make_loss()

    def _is_ours(self) -> bool:
        return self._read_own() is not None

    def _read_own(self) -> bytes | None:
        """Return the content of the lock on storage if it is this one, as of some seconds ago at most, else None."""
        for _ in range(MAX_TRIES):
            asked_at = time.monotonic()
            content = self._folder.read(LOCK_FILE)
            if time.monotonic() - asked_at <= MAX_ANSWER_S:
                owner = LockOwner.decode(content)
                return content if owner is not None and owner.token == self._owner.token else None
        raise StorageError(
            f"cannot write to '{self._folder.url}': its {LOCK_FILE} cannot be read within {MAX_ANSWER_S:.0f} s; check "
            "the storage and the connection to it"
        )

    def _make_loss(self) -> CheckpointError:
        return CheckpointError(
            f"run '{self._folder.url}' was taken over by another driver, or its {LOCK_FILE} was removed; "
            "this driver stops, resume the run when the other one has ended"
        )

    def _make_error(self, owner: LockOwner | None) -> RunTakenError:
        who = "another process" if owner is None else owner.describe(observer=self._owner)
        is_near = owner is not None and owner.is_near(self._owner) and owner.pid != self._owner.pid
        how = f"stop it (kill {owner.pid})" if owner is not None and is_near else "stop it"
        return RunTakenError(
            f"run '{self._folder.url}' is in use by {who}; wait for it, {how}, or choose another name "
            f"(a dead driver's lock expires {STALE_AFTER_S:.0f} s after its last sign of life; in a copy of a run that "
            f"was being trained, remove {LOCK_FILE})"
        )
