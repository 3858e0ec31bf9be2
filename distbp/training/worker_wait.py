"""Waiting for workers: not silently, and not for ever."""

from __future__ import annotations

import logging
import time

from distbp.backends import Shortage
from distbp.errors import DistbpError

TIMEOUT_S = 300.0
"""How long a worker for which the cluster has room may take to start, installing its environment included."""
FIRST_WORD_S = 5.0
NEXT_WORD_S = 30.0

logger = logging.getLogger("distbp")


class WorkerWait:
    """One wait for enough workers, which ends with an `error`."""

    def __init__(self, error: type[DistbpError], timeout_s: float = TIMEOUT_S):
        self._error = error
        self._timeout_s = timeout_s
        self._began = time.monotonic()
        self._next_word_s = FIRST_WORD_S

    def keep(self, shortage: Shortage) -> None:
        """Say now and then who is missing; raises the error when the time is over."""
        waited_s = time.monotonic() - self._began
        there = f"{shortage.num_workers} of at least {shortage.minimum} workers"
        if waited_s >= self._timeout_s:
            raise self._error(
                f"only {there} started within {self._timeout_s:g} s: {shortage.hint}; use fewer workers or a larger "
                f"cluster, the same command starts or resumes the run"
            )
        if waited_s >= self._next_word_s:
            self._next_word_s = waited_s + NEXT_WORD_S
            left_s = self._timeout_s - waited_s
            logger.warning(
                "waiting for workers: %s have started; %s; giving up in %.0f s", there, shortage.hint, left_s
            )
