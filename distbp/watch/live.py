"""The live screen: draws what is known, and obeys keys and signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from distbp.errors import TerminatedRunError
from distbp.watch.keyboard import Keyboard
from distbp.watch.observing import Watch
from distbp.watch.state import RunState
from distbp.watch.terminal_view import view_runs

REFRESH_S = 0.5


def show_live(watch: Watch, console: Console) -> None:
    """Show the runs until q is pressed. Raises KeyboardInterrupt, and TerminatedRunError after SIGTERM or SIGHUP."""
    chosen = 0
    with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            watch.check()
            states = watch.states
            live.update(_Screen(states, chosen), refresh=True)
            keys = keyboard.wait(REFRESH_S)
            if "q" in keys or "Q" in keys:
                return
            for key in keys:
                chosen = choose_run(chosen, key, len(states))
            _obey_signals(keyboard, live)


def choose_run(chosen: int, key: str, num_runs: int) -> int:
    """Return which run is shown after a key."""
    if key in ("right", "down", "left", "up"):
        return (chosen + (1 if key in ("right", "down") else -1)) % num_runs
    return int(key) - 1 if key.isdigit() and 1 <= int(key) <= num_runs else chosen


class _Screen:
    """Drawn for the size that the terminal has at that moment."""

    def __init__(self, states: Sequence[RunState], chosen: int):
        self._states = states
        self._chosen = chosen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = view_runs(self._states, self._chosen, options.max_width, max(4, options.size.height))
        yield Text("\n").join(lines)


def _obey_signals(keyboard: Keyboard, live: Live) -> None:
    signals = set(keyboard.signals)
    keyboard.signals.clear()
    if signals & {signal.SIGTERM, signal.SIGHUP}:
        raise TerminatedRunError("stopped watching; the runs go on")
    if signal.SIGTSTP in signals:
        live.stop()
        with keyboard.set_aside():
            os.kill(os.getpid(), signal.SIGSTOP)  # goes on here when it is continued
        live.start(refresh=True)
