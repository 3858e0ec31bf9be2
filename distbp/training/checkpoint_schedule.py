"""When checkpoints are due, and how far training may run ahead of storage."""

from __future__ import annotations

import logging

from distbp.run import CheckpointWriter

logger = logging.getLogger("distbp")


class CheckpointSchedule:
    """Keeps the promise of `checkpoint_every_steps`: after a crash at most so many steps are done again.

    Checkpoints are written beside the training. So one is begun already after three quarters of that number, and
    training only waits for one that is still under way when the last quarter is done too. Where storage refuses or
    is slow the promise cannot be kept; then training goes on, with a warning.
    """

    def __init__(self, checkpoint_every_steps: int, writer: CheckpointWriter, prompt_s: float):
        """prompt_s: how long to wait for a checkpoint before storage counts as slow."""
        self._every = checkpoint_every_steps
        self._interval = max(1, checkpoint_every_steps - max(1, checkpoint_every_steps // 4))
        self._writer = writer
        self._prompt_s = prompt_s
        self._is_slow = False
        self._has_warned = False

    def is_due(self, step: int, num_steps: int = 1) -> bool:
        """Return whether a checkpoint is due after `step`, or was after one of the last `num_steps`, a round's."""
        return step > 0 and step % self._interval < num_steps

    def next_stop(self, step: int) -> int:
        """Return up to which step to go from `step` before asking again, having waited for storage where it must be."""
        due = (step // self._interval + 1) * self._interval
        if self._keeps_up(step + 1 - self._every):
            return min(due, self._writer.saved_step + self._every)
        return due

    def _keeps_up(self, oldest_allowed: int) -> bool:
        """Return whether storage has a checkpoint of `oldest_allowed` or later; slow storage is waited for once."""
        if self._writer.saved_step >= oldest_allowed:
            self._is_slow = False
            return True
        if self._is_slow:
            return False
        in_time = self._writer.wait_for_step(oldest_allowed, self._prompt_s)
        self._is_slow = not in_time
        if self._is_slow and not self._has_warned and not self._writer.is_refused:  # of which users know already
            self._has_warned = True
            logger.warning(
                "storage takes longer for a checkpoint than training takes for %d steps; training does not wait, so "
                "more than checkpoint_every_steps=%d may have to be done again after a crash; raise it to be rid of "
                "this warning",
                self._every, self._every,
            )  # fmt: skip
        return in_time
