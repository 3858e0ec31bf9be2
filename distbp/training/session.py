"""One session of a run: from where it stands to its end, or to the signal or failure that ends the session."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from distbp.backends import Backend
from distbp.config import Placement
from distbp.errors import DivergedError, StorageError, WorkersLostError
from distbp.protocol.messages import Snapshot, StepOrder, StepReport, TrainState
from distbp.protocol.planning import step_order
from distbp.protocol.recovery import GroupLostError, decide
from distbp.run import CheckpointStore, CheckpointWriter, EventLog, StepLog, StepRecord
from distbp.run.interrupt import StopRequest
from distbp.run.position import Position
from distbp.training.packing import make_checkpoint, newest_saved, unpack
from distbp.training.plan import Plan
from distbp.training.rhythm import Rhythm

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Progress:
    """What an observer of a run sees after each step."""

    position: Position
    report: StepReport
    num_steps: int
    num_epochs: int


Observer = Callable[[Progress], None]


@dataclass(frozen=True)
class Journal:
    """The parts of the run directory that a session writes."""

    steps: StepLog
    events: EventLog
    store: CheckpointStore
    writer: CheckpointWriter


class Session:
    """Drives a backend through the steps of a plan and keeps the journal."""

    def __init__(
        self,
        plan: Plan,
        placement: Placement,
        backend: Backend,
        journal: Journal,
        stop: StopRequest,
        observe: Observer | None,
    ):
        self._plan = plan
        self._placement = placement
        self._backend = backend
        self._journal = journal
        self._stop = stop
        self._observe = observe
        self._saved_step = -1
        self._rhythm = Rhythm(placement.checkpoint_every_steps, journal.writer, journal.store.run.folder.prompt_s)

    def run(self, state: TrainState, position: Position) -> Position:
        """Train from `state` to the end and return the final position; every state worth keeping is checkpointed.

        Raises InterruptedRunError after a signal, DivergedError, WorkersLostError, StorageError.
        """
        self._saved_step = state.step if state.step > 0 else -1
        self._began = time.perf_counter()
        self._seconds_before = position.seconds
        self._position = position
        failed_at = -1
        pending: TrainState | None = state
        while True:
            try:
                if pending is not None:
                    with self._stop.at_once(self._interruption("before its workers were ready")):
                        self._backend.start(self._plan.worker, self._plan.server, pending)
                    pending = None
                self._train()
                return self._position
            except GroupLostError as lost:
                self._note_loss(lost, failed_at)
                if pending is None:  # else the group was lost while starting from it
                    pending = self._newest_state(self._backend.rescue())
                failed_at = pending.step
                self._journal.events.append("recovering", step=failed_at)

    def _train(self) -> None:
        """Go from boundary to boundary: epoch ends, checkpoints, the end."""
        while True:
            if self._position.step >= (self._position.epochs_evaluated + 1) * self._plan.steps_per_epoch:
                self._close_epoch()
            is_done = self._is_done()
            if is_done or self._stop or self._checkpoint_is_due():
                self._checkpoint()
            if is_done:
                return
            if self._stop:
                raise self._stop.error(self._interruption("checkpointed"))
            for report in self._backend.run(self._orders(self._next_boundary())):
                self._advance(report)

    def _orders(self, boundary: int) -> Iterator[StepOrder]:
        for step in range(self._position.step, boundary):
            if self._stop:
                return
            yield step_order(self._plan.recipe, step, len(self._plan.worker.train))

    def _next_boundary(self) -> int:
        step = self._position.step
        epoch_end = (step // self._plan.steps_per_epoch + 1) * self._plan.steps_per_epoch
        return min(epoch_end, self._rhythm.next_stop(step))

    def _is_done(self) -> bool:
        return self._position.step >= self._plan.num_steps or self._position.ran_out_of_patience(
            self._plan.recipe.early_stopping
        )

    def _advance(self, report: StepReport) -> None:
        if not report.committed:
            raise DivergedError(self._divergence(f"the loss of step {report.step} is {report.loss}"))
        seconds = self._seconds_before + time.perf_counter() - self._began
        self._position = self._position.after_step(report, seconds)
        self._journal.steps.append(
            StepRecord(
                step=report.step,
                epoch=report.epoch,
                loss=report.loss,
                num_examples=report.num_examples,
                compute_s=report.compute_s,
                wait_s=report.wait_s,
                commit_s=report.commit_s,
                checksum=report.checksum,
            )
        )
        if self._observe is not None:
            self._observe(Progress(self._position, report, self._plan.num_steps, self._plan.recipe.epochs))

    def _close_epoch(self) -> None:
        evaluation = self._backend.evaluate() if self._plan.worker.validation is not None else None
        self._position = self._position.after_epoch(evaluation, self._plan.recipe.early_stopping.min_delta)

    def _checkpoint_is_due(self) -> bool:
        return self._rhythm.is_due(self._position.step) or self._position.is_best

    def _checkpoint(self) -> None:
        """Hand a copy of the state to the writer, unless this step is saved already."""
        if self._saved_step == self._position.step:
            return
        state = self._backend.snapshot().state
        if not np.isfinite(state.parameters).all():
            raise DivergedError(self._divergence(f"parameters are not finite after step {state.step}"))
        checkpoint = make_checkpoint(self._plan, state, self._position)
        self._journal.writer.submit(checkpoint, best=self._position.is_best)
        self._saved_step = state.step

    def _note_loss(self, lost: GroupLostError, failed_at: int) -> None:
        """Count the failure and wait as long as `decide` says; raises WorkersLostError where it gives up."""
        self._position = replace(self._position, recoveries=self._position.recoveries + 1)
        decision = decide(self._position.recoveries, self._position.step - failed_at, self._placement.max_failures)
        self._journal.events.append("lost", step=self._position.step, reason=lost.reason, action=decision.action)
        if decision.action == "give_up":
            raise WorkersLostError(
                f"{lost.reason}; that is more than max_failures={self._placement.max_failures}; "
                f"the same command resumes the run"
            )
        logger.warning("%s; recovering at step %d", lost.reason, self._position.step)
        time.sleep(decision.backoff_s)

    def _newest_state(self, rescued: Snapshot | None) -> TrainState:
        """Return the state to go on from, and move the position there."""
        if rescued is not None:
            for report in rescued.reports:
                if report.step > self._position.step:
                    self._advance(report)
            return rescued.state
        recoveries, seconds = self._position.recoveries, self._position.seconds
        state, position = self._newest_checkpoint()
        self._saved_step = state.step if state.step > 0 else -1
        self._position = replace(position, recoveries=recoveries, seconds=seconds)
        return state

    def _newest_checkpoint(self) -> tuple[TrainState, Position]:
        """Return what the newest checkpoint holds, which may still wait for storage."""
        waiting = self._journal.writer.newest_waiting
        return newest_saved(self._plan, self._journal.store) if waiting is None else unpack(self._plan, waiting)

    def _interruption(self, how: str) -> str:
        step, num_steps = self._position.step, self._plan.num_steps
        return f"stopped after step {step} of {num_steps}, {how}; the same command resumes"

    def _divergence(self, what: str) -> str:
        rate = self._plan.recipe.optimizer.learning_rate
        return (
            f"training diverged: {what}; {self._describe_kept()}; "
            f"try a learning rate below {rate:g}, warmup_steps or clip_norm"
        )

    def _describe_kept(self) -> str:
        """Return which checkpoint there is; storage that fails now must not hide why training ended."""
        try:
            self._journal.writer.wait()
            steps = self._journal.store.list_steps()
        except StorageError as error:
            return str(error)
        return f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint yet"
