"""The folder of the links study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distbp.pages.drawing import write_plots
from distbp.pages.page import write_page
from distbp.pages.tables import Sheet, write_sheets, write_summary
from distbp.pages.words import duration, percent, times
from distbp.study.links.findings import LinksFindings, WayFinding
from distbp.study.links.plots import plot_links


def write_links_report(findings: LinksFindings, folder: Path) -> Path:
    """Write plots, numbers, summary and report.html, and return the page's path."""
    plots = plot_links(findings)
    write_plots(plots, folder / "plots")
    write_sheets([_sheet(findings)], folder / "numbers")
    write_summary(summarize(findings), folder / "summary.json")
    values = {
        "title": "Do local steps help where links are slow?",
        "f": findings,
        "one": findings.best_one_host,
        "many": findings.best_rounds,
        "ways": [*findings.one_host, findings.every_step, *findings.rounds],
        "source": "the handwritten digits" if findings.source == "digits" else f"'{findings.source}'",
    }
    page = folder / "report.html"
    write_page(page, "study/links/report.html.j2", values, plots)
    return page


def describe(findings: LinksFindings) -> dict[str, str | None]:
    """Return the few lines that a terminal shows."""
    one, many = findings.best_one_host, findings.best_rounds
    return {
        "goal": f"{percent(findings.goal)} validation error, links of {findings.links.mbit_s:g} Mbit/s (computed from "
        "measured steps)",
        "one host": _describe(one),
        "every step": _describe(findings.every_step),
        "rounds": _describe(many),
        "so": _conclude(findings.speedup),
    }


def summarize(findings: LinksFindings) -> dict[str, Any]:
    """Return what was found: `summary.json`, and what `--json` prints."""
    return asdict(findings) | {
        "best_one_host": None if findings.best_one_host is None else asdict(findings.best_one_host),
        "best_rounds": None if findings.best_rounds is None else asdict(findings.best_rounds),
        "speedup": findings.speedup,
        "sampling_error": findings.sampling_error,
    }


def _describe(way: WayFinding | None) -> str:
    if way is None:
        return "never reached the goal"
    if way.steps is None:
        return f"{way.way.name}: never reached the goal"
    return f"{way.way.name}: {duration(way.seconds)}, {way.steps:,} steps, {way.commits:,} commits"


def _conclude(speedup: float | None) -> str:
    if speedup is None:
        return "no comparison: one of them never reached the goal"
    if speedup < 1:
        return f"do not distribute: one host is {times(1 / speedup)} times faster than the best rounds"
    return f"rounds are {times(speedup)} times faster than one host; they change the numbers"


def _sheet(findings: LinksFindings) -> Sheet:
    columns = ("way", "batch", "hosts", "replicas", "steps_a_round", "learning_rate", "outer_rate", "outer_momentum")
    return Sheet("ways", (*columns, "steps", "commits", "seconds", "compute_s", "sent_bytes", "error"), _rows(findings))


def _rows(findings: LinksFindings) -> Iterator[tuple[Any, ...]]:
    for found in (*findings.one_host, findings.every_step, *findings.rounds):
        way, choice = found.way, found.choice
        chosen = (None, None, None) if choice is None else tuple(asdict(choice).values())
        measured = (found.steps, found.commits, found.seconds, found.compute_s, found.sent_bytes, found.error)
        yield (way.name, way.batch_size, way.num_hosts, way.replicas, way.steps, *chosen, *measured)
