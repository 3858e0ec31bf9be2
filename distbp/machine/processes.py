"""Processes of this machine, told apart even where a process id is used again."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def read_start_time(pid: int) -> int | None:
    """Return when a process started, in the kernel's clock ticks; None for none, a zombie, or no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if state in "ZX" else int(fields[18])


def kill(pid: int, started: int | None) -> None:
    """Kill the process `pid` if it is the one that started then; a stopped one too, at once."""
    if started is not None and read_start_time(pid) == started:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
