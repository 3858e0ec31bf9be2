"""SIGTERM and SIGHUP before and after a run: they end a command as Ctrl-C does, through all that cleans up.

While a run trains, distbp.machine.interrupt takes their place. Light, for it is imported before everything else.
"""

from __future__ import annotations

import signal
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a process to end, besides Ctrl-C: a terminal that is closed means the same as SIGTERM."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP; no Exception, so that every library lets it pass."""


def end_on_signals() -> None:
    """Let the first of these signals raise Terminated. One that is ignored, as under nohup, stays so."""
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def ignore_signals() -> None:
    """Let no signal end the process any more but SIGKILL and SIGQUIT."""
    for number in (signal.SIGINT, *ENDING):
        signal.signal(number, signal.SIG_IGN)


def _end(signum: int, _frame: FrameType | None) -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # cleaning up is under way
    raise Terminated(signal.Signals(signum).name)
