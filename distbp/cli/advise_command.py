"""`distbp advise`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from rich.text import Text
from typer import Option

from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import open_terminal

if TYPE_CHECKING:
    from distbp.advise.telling import Report

ROUNDS_SHARE = 0.3
"""Of the probe's seconds, spent beside them on rounds."""
Seconds = Annotated[float, Option(metavar="S", help="About how long the probe may take", min=5)]
Keep = Annotated[
    str | None,
    Option(
        "--keep", metavar="DIR", show_default=False, help="Keep what is measured here: if stopped, the same goes on"
    ),
]
AllowRounds = Annotated[
    bool, Option("--allow-rounds", help="Weigh rounds of local steps as well; they change the numbers")
]
OnlyLocal = Annotated[bool, Option("--local-only", help="Do not try Ray")]
Write = Annotated[
    str | None, Option("--write", metavar="FILE", show_default=False, help="Write the whole advised configuration here")
]


def advise(
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seconds: Seconds = 55,
    local_only: OnlyLocal = False,
    allow_rounds: AllowRounds = False,
    write: Write = None,
    keep: Keep = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Probe this data, model and machine, and say which batch size, workers and servers to use, if several at all."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.advise.rounds import describe_rounds, weigh_rounds
        from distbp.advise.telling import make_report, write_config
        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.study_progress import show_study_progress

        config = load_config_for_run(config_file, overrides or [])
        with show_study_progress(terminal.notes) as observe:
            report = make_report(config, seconds, not local_only, observe, keep)
            weighed = weigh_rounds(config.recipe, report.evidence, ROUNDS_SHARE * seconds) if allow_rounds else None
        terminal.show(Text(report.headline, "bold"), "", *report.why, "", _make_table(report), "", report.changes)
        if allow_rounds:
            terminal.show("", describe_rounds(weighed, report.advice.seconds))
        if write is not None:
            write_config(report.config, write)
            terminal.show(f"\nthe whole configuration: {write}")
        told = {"rounds": None if weighed is None else asdict(weighed)} if allow_rounds else {}
        terminal.document({**report.to_json(), **told})


def _make_table(report: Report) -> Table:
    """Return the fastest option of every placing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("where", "workers", "servers", "batch", "step", "expected", "against one worker"):
        table.add_column(name, justify="left" if name == "where" else "right")
    for row in report.rows:
        table.add_row(*row.cells, style="bold" if row.is_advised else "")
    return table
