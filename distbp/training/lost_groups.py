"""Lost groups of one session: how many there were, what follows from the next one, and when the run has recovered."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from distbp.config import Placement
from distbp.errors import WorkersLostError
from distbp.protocol.recovery import GroupLostError, History, Limits, LostGroup, decide
from distbp.run import EventLog
from distbp.run.position import Position

logger = logging.getLogger("distbp")


class LostGroups:
    """Counts the groups that a session has lost, and tells events, log and position of them.

    num_workers_lost: in this session.
    """

    def __init__(self, placement: Placement, events: EventLog):
        limit = placement.max_failures
        self._limits = Limits(None if limit == -1 else limit, placement.min_workers_left)
        self._events = events
        self._history = History(0, 0)
        self._lost_at: float | None = None
        self._last_step_at = time.perf_counter()
        self.num_workers_lost = 0

    @property
    def has_any(self) -> bool:
        """Whether a group was lost in this session."""
        return self._history.num_failures > 0

    def note_lost(self, lost: GroupLostError, position: Position, num_workers: int) -> float:
        """Count a lost group of `num_workers`; returns the seconds to wait before the next.

        Raises WorkersLostError where the session has to give up.
        """
        if self._lost_at is None:
            self._lost_at = self._last_step_at
        self.num_workers_lost += max(0, num_workers - lost.num_left)
        self._history = History(self._history.num_failures + 1, self._history.num_without_step + 1)
        decision = decide(LostGroup(lost.num_left), self._history, self._limits)
        step = position.step
        self._events.append("lost", step=step, reason=lost.reason, left=lost.num_left, action=decision.action)
        if decision.action == "give_up":
            raise WorkersLostError(f"{lost.reason}; {decision.why}; the same command resumes the run")
        workers = f"{lost.num_left} worker{'' if lost.num_left == 1 else 's'}"
        how = f"going on with {workers}" if decision.action == "shrink" else "waiting for new workers"
        logger.warning("%s; %s at step %d", lost.reason, how, step)
        return decision.backoff_s

    def note_work(self, now: float, position: Position, num_workers: int) -> Position:
        """The group works: if it was lost, say since when. Returns the position with the longest recovery."""
        self._last_step_at = now
        if self._lost_at is None:
            return position
        seconds, self._lost_at = now - self._lost_at, None
        self._history = replace(self._history, num_without_step=0)
        step, plural = position.step, "s" * (num_workers > 1)
        self._events.append("recovered", step=step, seconds=round(seconds, 3), workers=num_workers)
        logger.info("recovered in %.2f s at step %d with %d worker%s", seconds, step, num_workers, plural)
        return replace(position, longest_recovery_s=max(seconds, position.longest_recovery_s))
