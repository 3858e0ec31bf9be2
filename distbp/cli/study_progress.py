"""How far a study is: a bar on a terminal, a plain line now and then everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console

from distbp.cli.progress import LINE_INTERVAL_S, format_duration

if TYPE_CHECKING:
    from distbp.lab.lab import LabObserver, LabProgress


@contextmanager
def show_study_progress(console: Console) -> Iterator[LabObserver]:
    """Yield an observer that shows on `console` how far a study is."""
    if console.is_interactive and sys.stderr.isatty():
        with _show_bar(console) as observer:
            yield observer
    else:
        yield _make_lines(console)


def describe(progress: LabProgress) -> str:
    """Return the stage and the time left, if it is known."""
    left = "" if progress.seconds_left is None else f"  about {format_duration(progress.seconds_left)} left"
    return f"{progress.stage}{left}"


@contextmanager
def _show_bar(console: Console) -> Iterator[LabObserver]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    from distbp.cli.bar import Bar

    columns = MofNCompleteColumn(), BarColumn(bar_width=None), TextColumn("{task.description}", markup=False)
    with Bar(*columns, console=console, auto_refresh=False, expand=True, transient=True) as bar:
        task = bar.add_task("preparing", total=None)
        bar.refresh()

        def observe(progress: LabProgress) -> None:
            bar.update(
                task, completed=progress.done, total=progress.total, description=describe(progress), refresh=True
            )

        yield observe


def _make_lines(console: Console) -> LabObserver:
    stage, due = "", 0.0

    def observe(progress: LabProgress) -> None:
        nonlocal stage, due
        now = time.monotonic()
        if progress.stage == stage and now < due:
            return
        stage, due = progress.stage, now + LINE_INTERVAL_S
        with suppress(OSError):  # nobody reads stderr any more; that must not end a study
            console.print(f"{progress.done}/{progress.total}  {describe(progress)}", soft_wrap=True)

    return observe
