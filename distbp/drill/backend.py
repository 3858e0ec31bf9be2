"""A backend around another one that lets faults happen at their steps. Training does not know that it is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import chain

from distbp.backends.base import Abandon, Backend, Note, Process, Shortage, never
from distbp.drill.faults import Fault
from distbp.drill.signals import Brakes, strike
from distbp.protocol.messages import Evaluation, ServerTask, Snapshot, StepOrder, StepReport, TrainState, WorkerTask

POLL_S = 0.05
PRESENCE_S = 60.0
"""How long a fault waits for its target, which may just be starting again."""

Tell = Callable[[str, int, float], None]


class DrillBackend:
    """Passes everything on to `inner`, and strikes when a fault's steps are done and nothing is under way.

    tell: is called with "fired" or "back", the fault's number, and the seconds since it fired.
    """

    def __init__(self, inner: Backend, faults: dict[int, Fault], tell: Tell):
        self._inner = inner
        self._faults = dict(sorted(faults.items(), key=lambda item: item[1].step))
        self._tell = tell
        self._brakes = Brakes()
        self._fired_at: dict[int, float] = {}
        self._waits_since: float | None = None

    @property
    def num_workers(self) -> int:
        """How many workers the group has."""
        return self._inner.num_workers

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes of the group."""
        return self._inner.processes

    def admit(self) -> bool:
        """Let new workers in; returns whether the run should pause."""
        return self._inner.admit()

    def departure(self) -> str | None:
        """Return why this process will be gone soon."""
        return self._inner.departure()

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState, minimum: int = 1) -> Shortage | None:
        """Build the group."""
        return self._inner.start(worker, server, state, minimum)

    def run(self, orders: Iterator[StepOrder], abandon: Abandon = never) -> Iterator[StepReport]:
        """Carry out the steps, stopping before those, or the rounds of those, at which a fault is due."""
        held: list[StepOrder] = []
        while (order := held.pop() if held else next(orders, None)) is not None:
            if not self._strike_due(order):
                return  # the group has to change first
            for report in self._inner.run(chain([order], self._until_due(orders, held)), abandon):
                self._tell_who_is_back()
                yield report
            if self._inner.admit():
                return

    def evaluate(self) -> Evaluation:
        """Evaluate."""
        return self._inner.evaluate()

    def snapshot(self) -> Snapshot:
        """Return a copy of the state."""
        return self._inner.snapshot()

    def rescue(self) -> Snapshot | None:
        """Return the newest state of a lost group."""
        return self._inner.rescue()

    def take_notes(self) -> list[Note]:
        """Return what has happened."""
        return self._inner.take_notes()

    def close(self) -> None:
        """End everything, slowed processes too."""
        self._brakes.release()
        self._inner.close()

    def _until_due(self, orders: Iterator[StepOrder], held: list[StepOrder]) -> Iterator[StepOrder]:
        """Yield the orders before the one at which the next fault is due, which goes into `held`."""
        for order in orders:
            if self._find_due(order):
                held.append(order)
                return
            yield order

    def _find_due(self, order: StepOrder) -> list[int]:
        """Return the numbers of the faults at a step of this order, or before it."""
        return [number for number, fault in self._faults.items() if fault.step < order.end]

    def _strike_due(self, order: StepOrder) -> bool:
        """Let the next fault that is due happen; returns False if its target is missing and the group can grow.

        One at a time, so that the run has recovered from each before the next.
        """
        due = self._find_due(order)
        if not due:
            return True
        number, fault = due[0], self._faults[due[0]]
        pid = self._await_target(fault)
        if pid is None:
            return not self._inner.admit()
        del self._faults[number]
        self._fired_at[number] = time.monotonic()
        self._tell("fired", number, 0.0)
        strike(fault, pid, self._brakes)
        return True

    def _await_target(self, fault: Fault) -> int | None:
        """Return the process to strike; None when it is not there, for the group to grow or the run to go on."""
        while (pid := self._find(fault)) is None:
            now = time.monotonic()
            self._waits_since = self._waits_since or now
            if self._inner.admit() or now - self._waits_since > PRESENCE_S:
                return None
            time.sleep(POLL_S)
        self._waits_since = None
        return pid

    def _find(self, fault: Fault) -> int | None:
        if fault.target == "driver":
            return os.getpid()
        there = [p for p in self._inner.processes if fault.target == "worker" or p.is_server]
        return there[fault.rank].pid if fault.rank < len(there) else None

    def _tell_who_is_back(self) -> None:
        for number, fired_at in self._fired_at.items():
            self._tell("back", number, time.monotonic() - fired_at)
        self._fired_at.clear()
