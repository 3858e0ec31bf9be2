"""How far a run is: a bar on a terminal, a plain line now and then everywhere else.

An observer is called after every step, which may take 0.2 ms: it looks at the clock and mostly returns.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from distbp.training import Observer, Progress

BAR_INTERVAL_S = 0.2
LINE_INTERVAL_S = 5.0


@contextmanager
def show_progress(console: Console) -> Iterator[Observer]:
    """Yield an observer for train() that shows on `console` how far the run is."""
    if console.is_interactive and sys.stderr.isatty():
        with _show_bar(console) as observer:
            yield observer
    else:
        yield _make_lines(console)


class Pace:
    """Speed since the first step this session saw."""

    def __init__(self, progress: Progress):
        self._began = time.monotonic()
        self._first = progress.position

    def examples_per_second(self, progress: Progress) -> float | None:
        """Return the mean speed, None after the first step."""
        return self._rate(progress.position.examples - self._first.examples)

    def seconds_left(self, progress: Progress) -> float | None:
        """Return how long the remaining steps take at the mean speed; None after the first step."""
        rate = self._rate(progress.position.step - self._first.step)
        return None if rate is None else (progress.num_steps - progress.position.step) / rate

    def _rate(self, count: int) -> float | None:
        elapsed = time.monotonic() - self._began
        return count / elapsed if count > 0 and elapsed > 0 else None


def describe(progress: Progress, pace: Pace) -> str:
    """Return epoch, loss (mean of the epoch so far), validation accuracy, speed and time left, in 60 characters."""
    position, report = progress.position, progress.report
    loss = position.epoch_loss / position.epoch_examples if position.epoch_examples else report.loss
    parts = [f"epoch {report.epoch + 1}/{progress.num_epochs}", f"loss {loss:.3g}"]
    if position.validation_accuracy is not None:
        parts.append(f"val {position.validation_accuracy:.3f}")
    speed, left = pace.examples_per_second(progress), pace.seconds_left(progress)
    if speed is not None:
        parts.append(f"{_shorten(speed)}/s")
    if left is not None:
        parts.append(f"{format_duration(left)} left")
    return "  ".join(parts)


def format_duration(seconds: float) -> str:
    """Return 0:07, 12:34 or 5:06:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _shorten(rate: float) -> str:
    return f"{rate / 1000:.0f}k" if rate >= 10_000 else f"{rate:.0f}"


@contextmanager
def _show_bar(console: Console) -> Iterator[Observer]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    from distbp.cli.bar import Bar

    columns = MofNCompleteColumn(), BarColumn(bar_width=None), TextColumn("{task.description}", markup=False)
    # Refreshed by the observer alone: a thread of its own would take time from the workers.
    with Bar(*columns, console=console, auto_refresh=False, expand=True, transient=True) as bar:
        task = bar.add_task("preparing", total=None)
        bar.refresh()

        def draw(progress: Progress, pace: Pace) -> None:
            text = describe(progress, pace)
            bar.update(task, completed=progress.position.step, total=progress.num_steps, description=text, refresh=True)

        yield _every(BAR_INTERVAL_S, draw, at_once=True)


def _make_lines(console: Console) -> Observer:
    def print_line(progress: Progress, pace: Pace) -> None:
        text = f"step {progress.position.step}/{progress.num_steps}  {describe(progress, pace)}"
        console.print(text, soft_wrap=True)

    return _every(LINE_INTERVAL_S, print_line, at_once=False)


def _every(interval_s: float, draw: Callable[[Progress, Pace], None], at_once: bool) -> Observer:
    """Return an observer that draws at most once in `interval_s`; at_once: the first step and the last too."""
    pace: Pace | None = None
    due = 0.0

    def observe(progress: Progress) -> None:
        nonlocal pace, due
        now = time.monotonic()
        if now < due and (progress.position.step < progress.num_steps or not at_once):
            return
        due = now + interval_s
        if pace is None:
            pace = Pace(progress)
            if not at_once:
                return
        try:
            draw(progress, pace)
        except OSError:  # nobody reads stderr any more; that must not end a training run
            due = math.inf

    return observe
