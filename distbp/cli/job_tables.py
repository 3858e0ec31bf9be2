"""Jobs and stored runs as people read them. Lines may be longer than the screen: ids and digests are never cut."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from distbp.cli.progress import format_duration
from distbp.text.printable import printable

if TYPE_CHECKING:
    from distbp.service.jobs import Job
    from distbp.service.storage import StoredRun

_STYLES = {"SUCCEEDED": "green", "RUNNING": "cyan", "FAILED": "red", "DIVERGED": "red", "DAMAGED": "red"}


def describe_job(job: Job) -> Text:
    """Return one line: submission id, state, and its exit code where there is one."""
    code = "" if job.exit_code is None else f" (exit code {job.exit_code})"
    took = _format_duration(job)
    return Text.assemble(job.submission_id, "  ", (job.status, _style(job.status)), code, f"  {took}" if took else "")


def make_job_table(jobs: Iterable[Job]) -> Text:
    """Return one line for each job."""
    rows = []
    for job in jobs:
        code = "" if job.exit_code is None else str(job.exit_code)
        rows.append([job.submission_id, job.status, code, _format_time(job.start_time_ms), _format_duration(job)])
    return _align(["job", "state", "exit code", "started", "took"], rows)


def make_run_table(runs: Iterable[StoredRun]) -> Text:
    """Return one line for each run; the digest is whole, so that it can be compared."""
    rows = []
    for run in runs:
        accuracy = "" if run.validation_accuracy is None else f"{run.validation_accuracy:.4f}"
        rows.append([run.run, run.state, f"{run.steps:,}", accuracy, run.digest or ""])
    return _align(["run", "state", "steps", "accuracy", "digest"], rows)


def _align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Text:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [Text("  ".join(map(str.ljust, header, widths)).rstrip(), "bold")]
    for row in rows:
        cells = [(cell.ljust(width), _style(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append(Text("  ").join(Text(*cell) for cell in cells))
        lines[-1].rstrip()
    return Text("\n").join(lines)


def _style(cell: str) -> str:
    return _STYLES.get(cell, "")


def _format_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _format_duration(job: Job) -> str:
    if job.start_time_ms is None:
        return ""
    end_ms = time.time() * 1000 if job.end_time_ms is None else job.end_time_ms
    return format_duration((end_ms - job.start_time_ms) / 1000)
