"""Waiting for what another thread or process does: as long as it takes, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_S = 0.01


def wait_until(has_happened: Callable[[], object], timeout_s: float = 180) -> None:
    """Return as soon as `has_happened()` is true; fails if that is not so within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not has_happened():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s} s"
        time.sleep(PAUSE_S)
