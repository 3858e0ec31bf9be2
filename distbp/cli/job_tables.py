"""Jobs and stored runs as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from distbp.cli.progress import format_duration

if TYPE_CHECKING:
    from distbp.service.jobs import Job
    from distbp.service.storage import StoredRun

_STYLES = {"SUCCEEDED": "green", "RUNNING": "cyan", "FAILED": "red", "DAMAGED": "red"}


def describe_job(job: Job) -> Text:
    """Return one line: submission id, state, and its exit code where there is one."""
    code = "" if job.exit_code is None else f" (exit code {job.exit_code})"
    took = _format_duration(job)
    return Text.assemble(job.submission_id, "  ", _style(job.status), code, f"  {took}" if took else "")


def make_job_table(jobs: Iterable[Job]) -> Table:
    """Return one row for each job."""
    table = _make_table("job", "state", "exit code", "started", "took")
    for job in jobs:
        code = "" if job.exit_code is None else str(job.exit_code)
        when = _format_time(job.start_time_ms), _format_duration(job)
        table.add_row(job.submission_id, _style(job.status), code, *when)
    return table


def make_run_table(runs: Iterable[StoredRun]) -> Table:
    """Return one row for each run; the digest is whole, so that it can be compared."""
    table = _make_table("run", "state", "steps", "accuracy", "digest")
    for run in runs:
        accuracy = "" if run.validation_accuracy is None else f"{run.validation_accuracy:.4f}"
        table.add_row(run.run, _style(run.state), f"{run.steps:,}", accuracy, run.digest or "")
    return table


def _make_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column in ("steps", "accuracy", "took") else "left")
    return table


def _style(state: str) -> Text:
    return Text(state, _STYLES.get(state, ""))


def _format_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _format_duration(job: Job) -> str:
    if job.start_time_ms is None:
        return ""
    end_ms = job.end_time_ms or time.time() * 1000
    return format_duration((end_ms - job.start_time_ms) / 1000)
