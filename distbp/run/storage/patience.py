"""Tries again what storage refused, where there is nothing else to do meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from distbp.errors import CheckpointError, StorageError

logger = logging.getLogger("distbp")

T = TypeVar("T")
MAX_PAUSE_S = 2.0


def persist(operation: Callable[[], T], patience_s: float) -> T:
    """Return what `operation` returns, trying again for `patience_s` seconds, with one warning.

    Raises the last StorageError; a CheckpointError at once, for what is damaged or missing stays so.
    """
    deadline = time.monotonic() + patience_s
    pause_s = 0.25
    has_warned = False
    while True:
        try:
            return operation()
        except CheckpointError:
            raise
        except StorageError as error:
            if time.monotonic() + pause_s > deadline:
                raise
            if not has_warned:
                logger.warning("%s; trying again for %.0f s", error, patience_s)
            has_warned = True
        time.sleep(pause_s)
        pause_s = min(MAX_PAUSE_S, 2 * pause_s)
