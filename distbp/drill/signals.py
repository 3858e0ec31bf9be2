"""What a drill does to a process: end it, stop it, warn it, or let it run only now and then."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

from distbp.drill.faults import Fault

PERIOD_S = 0.02
"""How often a slowed process runs: shorter than what a person or a time-out notices."""
_SIGNALS = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP, "preempt": signal.SIGTERM}


class Brakes:
    """Threads that slow processes down, each by stopping it for most of every PERIOD_S."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []

    def apply(self, pid: int, factor: float) -> None:
        """Slow a process down until it ends or `release`."""
        thread = threading.Thread(target=self._slow, args=(pid, factor), name="distbp-brake", daemon=True)
        self._threads.append(thread)
        thread.start()

    def release(self) -> None:
        """Let all processes run again."""
        self._released.set()
        for thread in self._threads:
            thread.join()

    def _slow(self, pid: int, factor: float) -> None:
        with suppress(ProcessLookupError):
            try:
                while not self._released.is_set():
                    os.kill(pid, signal.SIGSTOP)
                    self._released.wait(PERIOD_S * (1 - 1 / factor))
                    os.kill(pid, signal.SIGCONT)
                    self._released.wait(PERIOD_S / factor)
            finally:
                os.kill(pid, signal.SIGCONT)


def strike(fault: Fault, pid: int, brakes: Brakes) -> None:
    """Do to process `pid` what the fault says."""
    if fault.action == "slow":
        brakes.apply(pid, fault.factor)
    else:
        os.kill(pid, _SIGNALS[fault.action])
