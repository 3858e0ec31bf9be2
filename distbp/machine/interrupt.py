"""Ctrl-C, SIGTERM and SIGHUP as a request: the step under way is finished first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from distbp.errors import InterruptedRunError, TerminatedRunError
from distbp.machine.signals import ENDING, postpone_in_import

POLL_S = 0.1
_SIGNALS = (signal.SIGINT, *ENDING)
_ASKED = (signal.SIGINT, signal.SIGTERM)


class _StopNow(BaseException):
    """Passes through every `except Exception` that a signal may meet on its way, such as that of logging."""


class StopRequest:
    """Whether a signal has asked the run to stop."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._ends_at_once = False
        self._num_received = 0

    def __bool__(self) -> bool:
        return self._signal is not None

    def listen(self) -> None:
        """Receive signals from now on; again after code that installed handlers of its own, as Ray does.

        SIGHUP stays ignored where it was, as under nohup.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number in _ASKED or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, self.receive)

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Note the signal; a second Ctrl-C, or any during `at_once`, interrupts at once (after a pending import)."""
        if self._ends_at_once and postpone_in_import(signum, frame):
            return
        if self._signal is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signum
        self._num_received += 1
        if self._ends_at_once:
            raise _StopNow

    def ask(self) -> None:
        """Ask the run to stop, as SIGTERM would."""
        self._signal = self._signal or signal.SIGTERM

    @contextmanager
    def at_once(self, message: str) -> Iterator[None]:
        """Let a signal end the block with `message`: for waiting, where no step is under way."""
        if self:
            raise self.error(message)
        self._ends_at_once = True
        try:
            yield
        except (_StopNow, SystemError) as error:  # Ray's compiled code turns one into the other
            if isinstance(error, SystemError) and not self:
                raise
            raise self.error(message) from None
        finally:
            self._ends_at_once = False

    def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal asks to stop."""
        deadline = time.monotonic() + seconds
        while not self and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))

    def patience(self, seconds: float) -> Callable[[], bool]:
        """Return a function that says whether a signal has asked to stop, from `seconds` after it first saw that."""
        seen_at: list[float] = []

        def is_over() -> bool:
            if self and not seen_at:
                seen_at.append(time.monotonic())
            return bool(seen_at) and time.monotonic() - seen_at[0] >= seconds

        return is_over

    def watch(self) -> Callable[[], bool]:
        """Return a function that says whether a signal has come after this call."""
        num_before = self._num_received
        return lambda: self._num_received > num_before

    def error(self, message: str) -> InterruptedRunError:
        """Return the exception that says so, with the exit code of the signal."""
        return InterruptedRunError(message) if self._signal == signal.SIGINT else TerminatedRunError(message)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield a request that SIGINT, SIGTERM and SIGHUP set, until the block ends.

    Outside the main thread nothing sets it.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    request.listen()
    try:
        yield request
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # none of Python's: a program that embeds it has one of its own
                    signal.signal(number, handler)
