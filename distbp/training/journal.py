"""What a session writes: the logs and the checkpoints of its run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from distbp.backends.base import Note
from distbp.errors import StorageError
from distbp.protocol.messages import StepReport
from distbp.run import CheckpointStore, CheckpointWriter, EventLog, RunDirectory, StepLog, StepRecord

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Journal:
    """The parts of the run directory that a session writes.

    run: its name. prompt_s: how long training may wait for a checkpoint before storage counts as slow.
    """

    run: str
    steps: StepLog
    events: EventLog
    store: CheckpointStore
    writer: CheckpointWriter
    prompt_s: float

    @classmethod
    def begin(cls, run: RunDirectory, store: CheckpointStore, step: int) -> Journal:
        """Open the logs and the checkpoint writer of a run that goes on from `step`."""
        events = EventLog(run)
        steps = StepLog(run, from_step=step)
        return cls(run.name, steps, events, store, CheckpointWriter(store, step), run.folder.prompt_s)

    def note_step(self, report: StepReport) -> None:
        """Log a committed step."""
        record = StepRecord(
            step=report.step,
            epoch=report.epoch,
            loss=report.loss,
            num_examples=report.num_examples,
            compute_s=report.compute_s,
            wait_s=report.wait_s,
            commit_s=report.commit_s,
            checksum=report.checksum,
            mean_compute_s=report.mean_compute_s,
            replicas=report.replicas,
            weight=report.weight,
            data_s=report.data_s,
        )
        self.steps.append(record)

    def note_group(self, notes: Iterable[Note], step: int) -> int:
        """Log what has happened to the group by `step`, and tell what a user may want to know.

        Returns how many workers have left in time.
        """
        num_left = 0
        for note in notes:
            self.events.append(note.kind, step=step, text=note.text)
            if note.kind == "left":
                num_left += 1
                logger.info("%s; it has left after step %d, no step is lost", note.text, step)
            elif note.kind != "joined":
                logger.log(logging.INFO if note.kind == "shards" else logging.WARNING, "%s", note.text)
        return num_left

    def describe_kept(self, must_end: Callable[[], bool]) -> str:
        """Return which checkpoint there is; storage that fails now must not hide why training ended."""
        try:
            self.writer.wait(must_end)
            steps = self.store.list_steps()
        except StorageError as error:
            return str(error)
        return f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint yet"
