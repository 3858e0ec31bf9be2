"""SIGTERM, SIGHUP and Ctrl-C before and after a run: they end a command through all that cleans up.

While a run trains, distbp.machine.interrupt takes their place. Light, for it is imported before everything else.

No handler raises while a module is being imported. An exception that passes through an import comes out as another
one (Python makes RuntimeError of what `__set_name__` lets pass), or leaves a library half imported.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a process to end, besides Ctrl-C: a terminal that is closed means the same as SIGTERM."""
AGAIN_S = 0.02
"""How long a signal that comes during an import waits until it is looked at again."""
LONGEST_IMPORT_S = 20.0
"""After so long it is heard all the same: the module may be one of the user's that waits for something."""
_IMPORT = "<frozen importlib"

_waiting_since: dict[int, float] = {}
"""When each postponed signal came first, by time.monotonic()."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP; no Exception, so that every library lets it pass."""


def end_on_signals() -> None:
    """Let the first of these signals raise Terminated, and Ctrl-C KeyboardInterrupt, but not within an import.

    One that is ignored, as under nohup, stays so.
    """
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def ignore_signals() -> None:
    """Let no signal end the process any more but SIGKILL and SIGQUIT."""
    for number in (signal.SIGINT, *ENDING):
        signal.signal(number, signal.SIG_IGN)


def postpone_in_import(signum: int, frame: FrameType | None) -> bool:
    """Return whether a handler was called within an import; then the signal comes again in a moment."""
    since = _waiting_since.setdefault(signum, time.monotonic())
    if not _is_importing(frame) or time.monotonic() - since > LONGEST_IMPORT_S:
        del _waiting_since[signum]
        return False
    main = threading.main_thread().ident  # its waiting is what a signal has to interrupt
    again = threading.Timer(AGAIN_S, signal.pthread_kill, [main, signum])
    again.daemon = True
    again.start()
    return True


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False


def _end(signum: int, frame: FrameType | None) -> None:
    if postpone_in_import(signum, frame):
        return
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # cleaning up is under way
    raise Terminated(signal.Signals(signum).name)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    if not postpone_in_import(signum, frame):
        signal.default_int_handler(signum, frame)
