"""The two logs of a run: steps.jsonl, which must cost next to nothing, and events.jsonl, which must not lose a line."""

from __future__ import annotations

import logging
from typing import Self

from distbp.run.directory import RunDirectory
from distbp.run.records import (
    EVENTS_FILE,
    STEPS_FILE,
    StepRecord,
    drop_torn_line,
    encode_event,
    keep_steps,
    last_readable_step,
)
from distbp.run.storage.folder import join_url
from distbp.text.json_text import encode_line

logger = logging.getLogger("distbp")


class StepLog:
    """Appends one line a step to steps.jsonl; lines wait in memory up to a second (30 on object stores).

    from_step: steps done when this log starts. Records of later steps were written by a driver that died before
    its next checkpoint; they are removed here, because this run may stop before it reaches them again, and counted
    in num_removed.
    The run's outbox writes the lines before any checkpoint submitted later, so no checkpoint is ahead of its log.
    """

    def __init__(self, run: RunDirectory, from_step: int = 0) -> None:
        self._outbox = run.outbox
        content = run.folder.read(STEPS_FILE) or b""
        kept = keep_steps(content, from_step)
        self.num_removed = content.count(b"\n") - kept.count(b"\n")
        if kept != content:
            run.folder.write(STEPS_FILE, kept)
        last = last_readable_step(kept)
        if last < from_step:
            logger.warning(
                "'%s' ends with step %d although the run has done %d: its end was lost, and the log keeps a gap",
                join_url(run.url, STEPS_FILE), last, from_step,
            )  # fmt: skip

    def append(self, record: StepRecord) -> None:
        """Take a record; returns at once, whatever state storage is in."""
        self._outbox.append(STEPS_FILE, encode_line(record.to_values()).encode(), at_once=False)

    def close(self) -> None:
        """Return when everything is written; the log may be used again. Raises StorageError like Outbox.wait()."""
        self._outbox.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventLog:
    """Appends joins, losses, recoveries and the like to events.jsonl, each as soon as storage takes it."""

    def __init__(self, run: RunDirectory) -> None:
        self._outbox = run.outbox
        content = run.folder.read(EVENTS_FILE) or b""
        whole = drop_torn_line(content)
        if whole != content:
            run.folder.write(EVENTS_FILE, whole)

    def append(self, kind: str, **fields: object) -> None:
        """Note the time (ISO 8601, UTC), the kind and the fields as one line; returns at once."""
        self._outbox.append(EVENTS_FILE, encode_event(kind, **fields), at_once=True)

    def close(self) -> None:
        """Return when everything is written; the log may be used again. Raises StorageError like Outbox.wait()."""
        self._outbox.wait()
