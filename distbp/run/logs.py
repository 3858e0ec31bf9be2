"""The two logs of a run: steps.jsonl, which must cost next to nothing, and events.jsonl, which must not lose a line."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Self

from distbp.run.directory import EVENTS_FILE, STEPS_FILE, RunDirectory
from distbp.run.json_text import encode_line
from distbp.run.records import StepRecord, drop_torn_line, keep_steps

MAX_SHARE_OF_TIME = 0.05  # an object store rewrites the whole log: rarer flushes keep that cheap as the log grows


class StepLog:
    """Appends one line a step to steps.jsonl; lines wait in memory up to a second (30 on object stores).

    from_step: steps done when this log starts. Records of later steps were written by a driver that died before
    its next checkpoint; they are removed here, because this run may stop before it reaches them again.
    Flush before a checkpoint, so that no checkpoint is ever ahead of its log.
    """

    def __init__(self, run: RunDirectory, from_step: int = 0) -> None:
        self._folder = run.folder
        self._lines: list[str] = []
        self._interval_s = self._folder.flush_interval_s
        self._next_flush = 0.0
        content = self._folder.read(STEPS_FILE) or b""
        kept = keep_steps(content, from_step)
        if kept != content:
            self._folder.write(STEPS_FILE, kept)

    def append(self, record: StepRecord) -> None:
        """Take a record; about once a second this writes what has gathered."""
        self._lines.append(encode_line(vars(record)))
        if time.monotonic() >= self._next_flush:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered; if that raises StorageError the lines are kept for the next flush."""
        started = time.monotonic()
        if self._lines:
            self._folder.append(STEPS_FILE, "".join(self._lines).encode())
            self._lines.clear()
        now = time.monotonic()
        self._next_flush = now + max(self._interval_s, (now - started) / MAX_SHARE_OF_TIME)

    def close(self) -> None:
        """Write the rest; the log may be used again."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventLog:
    """Appends joins, losses, recoveries and the like to events.jsonl, each at once."""

    def __init__(self, run: RunDirectory) -> None:
        self._folder = run.folder
        self._lock = threading.Lock()
        content = self._folder.read(EVENTS_FILE) or b""
        whole = drop_torn_line(content)
        if whole != content:
            self._folder.write(EVENTS_FILE, whole)

    def append(self, kind: str, **fields: object) -> None:
        """Write the time (ISO 8601, UTC), the kind and the fields as one line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = encode_line({"time": now, "kind": kind, **fields})
        with self._lock:  # the checkpoint writer's thread appends too
            self._folder.append(EVENTS_FILE, line.encode())
