"""`distbp report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from distbp.cli.options import AsJson, Debug
from distbp.cli.terminal import open_terminal

MAX_RUNS = 8
Runs = Annotated[
    list[str], Argument(metavar="RUN...", show_default=False, help="One run's directory, or several to compare")
]
Page = Annotated[str, Option(metavar="FILE", help="Where to write the page")]


def report(runs: Runs, out: Page = "report.html", as_json: AsJson = False, debug: Debug = False) -> None:
    """Write a page about a run, its model included, or about several side by side: learning, time, what differs."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.errors import ConfigError
        from distbp.report import read_model, read_story, write_report

        if len(runs) > MAX_RUNS:
            raise ConfigError(f"{len(runs)} runs are too many to tell apart on one page; name at most {MAX_RUNS}")
        stories = [read_story(run) for run in runs]
        has_model = len(stories) == 1 and stories[0].state == "finished"
        write_report(stories, Path(out), read_model(stories[0].url) if has_model else None)
        terminal.show(f"{len(runs)} run{'s' if len(runs) > 1 else ''} in {out}")
        terminal.document({"out": out, "runs": [{"run": s.url, "state": s.state, "digest": s.digest} for s in stories]})
