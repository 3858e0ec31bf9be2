"""One session of a run: from where it stands to its end, or to the signal or failure that ends the session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from numpy.typing import NDArray

from distbp.backends import Backend
from distbp.config import Placement
from distbp.errors import ClusterError, DataError, DivergedError, InterruptedRunError, WorkersLostError
from distbp.machine.interrupt import StopRequest
from distbp.protocol.messages import Snapshot, StepOrder, StepReport, TrainState
from distbp.protocol.recovery import GroupLostError, RoundAbandonedError
from distbp.protocol.rounds import start_of_round
from distbp.run.position import Position
from distbp.training.advice import advise_after_divergence
from distbp.training.checkpoint_contents import make_checkpoint, newest_saved, unpack
from distbp.training.checkpoint_schedule import CheckpointSchedule
from distbp.training.journal import Journal
from distbp.training.ledger import Account, Ledger
from distbp.training.lost_groups import LostGroups
from distbp.training.monitor import Monitor
from distbp.training.plan import Plan
from distbp.training.progress import EpochWatcher, Finisher, Observer, Progress
from distbp.training.worker_wait import WorkerWait

ABANDON_AFTER_S = 1.0
"""Seconds that a round under way still has when the run is asked to stop: one that ends soon is not lost."""


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
        state: TrainState,
        position: Position,
    ):
        """state, position: where the run stands."""
        self._plan = plan
        self._placement = placement
        self._backend = backend
        self._journal = journal
        self._stop = stop
        self._observe = observe
        self._pending: TrainState | None = state
        self._position = position
        self._monitor = Monitor(plan)
        self._ledger = Ledger(position)
        self._lost_groups = LostGroups(placement, journal.events)
        self._schedule = CheckpointSchedule(placement.checkpoint_every_steps, journal.writer, journal.prompt_s)
        self._furthest = state.step + journal.steps.num_removed
        self._saved_step = state.step
        self._last_report: StepReport | None = None
        self._has_formed = False
        self._departure: str | None = None
        self._is_told_to_end = False

    def run(self) -> Position:
        """Train to the end and return the final position; every state worth keeping is checkpointed.

        Raises InterruptedRunError after a signal, DivergedError, WorkersLostError, StorageError, ClusterError.
        """
        while True:
            try:
                if self._pending is not None:
                    self._start(self._pending)
                self._train()
                self._show_end()
                return self._ledger.stamp(self._position)
            except RoundAbandonedError:
                self._end_within_round()
            except GroupLostError as lost:
                self._ledger.charge("waiting_s")
                self._note_lost(lost)
                if self._pending is None:  # else the group was lost while starting from it
                    self._pending = self._newest_state(self._backend.rescue())
            except DataError as error:
                self._keep_what_is_done()
                raise DataError(f"{error}; {self._interruption('for want of data')}") from None

    def _end_within_round(self) -> NoReturn:
        """Save the state before the round that was given up, and end the session."""
        rescued = self._backend.rescue()
        if rescued is None:  # then there is the newest checkpoint
            raise self._stop.error(self._interruption("within a round"))
        self._record_missing(rescued)
        self._save(rescued.state)
        raise self._stop.error(self._interruption("checkpointed, without the round under way"))

    def _start(self, state: TrainState) -> None:
        """Have a group built around `state`, waiting until there are enough workers."""
        self._pending = state
        try:
            with self._stop.at_once(self._interruption("before its workers were ready")):
                self._await_group(state)
        except InterruptedRunError:
            self._save(state)
            raise
        self._take_notes()
        self._journal.events.append("formed", step=state.step, workers=self._backend.num_workers)
        self._ledger.charge("waiting_s")
        self._pending = None
        self._has_formed = True

    def _await_group(self, state: TrainState) -> None:
        has_begun = self._has_formed or self._lost_groups.has_any
        minimum = self._placement.min_workers_left if has_begun else self._placement.min_workers
        wait = WorkerWait(WorkersLostError if has_begun else ClusterError)
        while (shortage := self._backend.start(self._plan.worker, self._plan.server, state, minimum)) is not None:
            self._take_notes()
            if self._heeds_departure():
                raise self._stop.error(self._interruption("while it waited for workers"))
            wait.keep(shortage)

    def _train(self) -> None:
        """Go from boundary to boundary: epoch ends, checkpoints, workers that come or leave, the end."""
        while True:
            if self._position.step >= (self._position.epochs_evaluated + 1) * self._plan.steps_per_epoch:
                self._close_epoch()
            self._heeds_departure()
            is_done = self._is_done()
            if is_done or self._stop or self._checkpoint_is_due():
                self._checkpoint()
            if is_done:
                return
            if self._stop:
                raise self._stop.error(self._interruption("checkpointed"))
            if self._backend.admit():
                self._start(self._backend.snapshot().state)
            for report in self._run(self._next_boundary()):
                self._advance(report)
            self._take_notes()

    def _heeds_departure(self) -> bool:
        """Return whether the driver has to leave its machine; then the run stops as after SIGTERM."""
        self._departure = self._departure or self._backend.departure()
        if self._departure is not None:
            self._stop.ask()
        return self._departure is not None

    def _run(self, boundary: int) -> Iterator[StepReport]:
        """Yield the reports of the steps up to `boundary`, or up to the end of the round in which it lies."""
        orders = self._orders(boundary)
        if self._plan.worker.rounds is None:
            return self._backend.run(orders)
        is_over = self._stop.patience(ABANDON_AFTER_S)

        def abandon() -> bool:
            self._heeds_departure()  # which asks for the stop that is_over waits for
            return is_over()

        return self._backend.run(orders, abandon)

    def _orders(self, boundary: int) -> Iterator[StepOrder]:
        step = self._position.step
        while step < boundary and not self._stop:
            order = self._plan.order(step)
            step = order.end
            yield order

    def _next_boundary(self) -> int:
        step = self._position.step
        epoch_end = (step // self._plan.steps_per_epoch + 1) * self._plan.steps_per_epoch
        return min(epoch_end, self._schedule.next_stop(step))

    def _is_done(self) -> bool:
        is_at_end = self._position.step >= self._plan.num_steps or self._is_told_to_end
        return is_at_end or self._position.ran_out_of_patience(self._plan.recipe.early_stopping)

    def _advance(self, report: StepReport) -> None:
        """Take the report of a step that the group has just done."""
        account: Account = "recomputing_s" if report.step <= self._furthest else "work_s"
        self._ledger.charge(account)
        if report.data_s:
            self._ledger.move(report.data_s, account, "data_s")
        self._record(report)
        self._note_work()
        self._show(report)

    def _show(self, report: StepReport) -> None:
        """Let the observer see how far the run is."""
        self._last_report = report
        if self._observe is not None:
            self._observe(self._progress(report))

    def _show_end(self) -> None:
        """Let an observer see the last epoch's evaluation too, while the backend still stands."""
        if self._last_report is not None and isinstance(self._observe, Finisher):
            self._observe.finish(self._progress(self._last_report))

    def _progress(self, report: StepReport) -> Progress:
        return Progress(
            position=self._ledger.stamp(self._position),
            report=report,
            num_steps=self._plan.num_steps,
            num_epochs=self._plan.recipe.epochs,
            run=self._journal.run,
            num_workers=self._backend.num_workers,
            num_lost=self._lost_groups.num_workers_lost,
        )

    def _record(self, report: StepReport) -> None:
        if not report.committed:
            raise DivergedError(self._divergence(f"the loss of step {report.step} is {report.loss}"))
        self._position = self._position.after_step(report)
        self._furthest = max(self._furthest, report.step)
        self._journal.note_step(report)

    def _close_epoch(self) -> None:
        evaluation = self._backend.evaluate() if self._plan.worker.validation is not None else None
        value = None if evaluation is None else self._monitor.measure(evaluation, self._take_parameters)
        min_delta = self._plan.recipe.early_stopping.min_delta
        self._position = self._position.after_epoch(evaluation, min_delta, self._monitor.to_error(value))
        if evaluation is not None:
            watched = {} if value is None else {"monitor": self._monitor.name, "value": value}
            self._journal.events.append(
                "evaluated", step=self._position.step, loss=evaluation.loss, accuracy=evaluation.accuracy, **watched
            )
        self._ledger.charge("work_s")
        self._note_work()
        self._show_epoch()

    def _take_parameters(self) -> NDArray:
        return self._backend.snapshot().state.parameters

    def _show_epoch(self) -> None:
        """Let an observer see the epoch that has just ended, and say whether the run is to end with it."""
        if self._last_report is not None and isinstance(self._observe, EpochWatcher):
            progress = self._progress(self._last_report)
            self._is_told_to_end = self._observe.end_epoch(progress, lambda: self._backend.snapshot().state)

    def _checkpoint_is_due(self) -> bool:
        step, recipe = self._position.step, self._plan.recipe
        num_steps = step - start_of_round(recipe, max(0, step - 1), self._plan.steps_per_epoch)
        return self._schedule.is_due(step, num_steps) or self._position.is_best

    def _checkpoint(self) -> None:
        """Hand a copy of the state to the writer, unless this step is saved already."""
        if self._saved_step == self._position.step:
            return
        self._save(self._backend.snapshot().state)
        self._ledger.charge("checkpointing_s")
        self._note_work()

    def _save(self, state: TrainState) -> None:
        if state.step == self._saved_step:
            return
        if not self._plan.layout.is_finite(state.parameters):
            raise DivergedError(self._divergence(f"parameters are not finite after step {state.step}"))
        checkpoint = make_checkpoint(self._plan, state, self._ledger.stamp(self._position))
        self._journal.writer.submit(checkpoint, best=self._position.is_best)
        self._saved_step = state.step

    def _keep_what_is_done(self) -> None:
        """Checkpoint the last step that the group committed, if it can still be asked."""
        with suppress(GroupLostError):
            found = self._backend.snapshot()
            self._record_missing(found)
            self._save(found.state)

    def _note_lost(self, lost: GroupLostError) -> None:
        """Count the lost group and wait as long as it says; raises WorkersLostError where it is one too many."""
        self._take_notes()
        self._position = replace(self._position, recoveries=self._position.recoveries + 1)
        self._stop.pause(self._lost_groups.note_lost(lost, self._position, self._backend.num_workers))

    def _note_work(self) -> None:
        """The group works: if it was lost, it has recovered."""
        now, num_workers = self._ledger.last_charge, self._backend.num_workers
        self._position = self._lost_groups.note_work(now, self._position, num_workers)

    def _take_notes(self) -> None:
        num_left = self._journal.note_group(self._backend.take_notes(), self._position.step)
        if num_left:
            self._position = self._position.changed(preemptions=self._position.preemptions + num_left)

    def _newest_state(self, rescued: Snapshot | None) -> TrainState:
        """Return the state to go on from, and move the position there."""
        if rescued is not None:
            self._record_missing(rescued)
            self._journal.events.append("recovering", step=rescued.state.step, state="server", redone=0)
            return rescued.state
        with self._stop.at_once(self._interruption("while its newest checkpoint was read")):
            state, position = self._newest_checkpoint()
        self._journal.events.append(
            "recovering", step=state.step, state="checkpoint", redone=self._furthest - state.step
        )
        self._saved_step = state.step
        now = self._position
        counts = {"recoveries": now.recoveries, "preemptions": now.preemptions}
        self._position = position.changed(**counts, longest_recovery_s=now.longest_recovery_s)
        return state

    def _record_missing(self, snapshot: Snapshot) -> None:
        """Record the steps whose reports never arrived."""
        for report in snapshot.reports:
            if report.step > self._position.step:
                self._record(report)

    def _newest_checkpoint(self) -> tuple[TrainState, Position]:
        """Return what the newest checkpoint holds, which may still wait for storage."""
        waiting = self._journal.writer.newest_waiting
        return newest_saved(self._plan, self._journal.store) if waiting is None else unpack(self._plan, waiting)

    def _interruption(self, how: str) -> str:
        step, num_steps = self._position.step, self._plan.num_steps
        stopped = f"stopped after step {step} of {num_steps}, {how}"
        if self._departure is None:
            return f"{stopped}; the same command resumes"
        return f"{self._departure}; {stopped}; give the same command on another machine to go on"

    def _divergence(self, what: str) -> str:
        kept = self._journal.describe_kept(self._stop.watch())
        return (
            f"training diverged: {what}; {kept}; {advise_after_divergence(self._plan.recipe, self._plan.worker.train)}"
        )
