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
from distbp.study.links.cost import bytes_of_commit
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
        "conclusion": conclude(findings),
        "sent_a_commit": bytes_of_commit(findings.num_bytes, findings.links.num_hosts),
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
        "so": conclude(findings),
    }


def summarize(findings: LinksFindings) -> dict[str, Any]:
    """Return what was found: `summary.json`, and what `--json` prints."""
    return asdict(findings) | {
        "best_one_host": None if findings.best_one_host is None else asdict(findings.best_one_host),
        "best_rounds": None if findings.best_rounds is None else asdict(findings.best_rounds),
        "speedup": findings.speedup,
        "every_step_speedup": findings.every_step_speedup,
        "sampling_error": findings.sampling_error,
    }


def _describe(way: WayFinding | None) -> str:
    if way is None:
        return "never reached the goal"
    if way.steps is None:
        return f"{way.way.name}: never reached the goal"
    commits = "" if way.way.num_hosts == 1 else f", {way.commits:,} commits"
    return f"{way.way.name}: {duration(way.seconds)}, {way.steps:,} steps{commits}"


def conclude(findings: LinksFindings) -> str:
    """Return in one sentence, without a point, what to do over these links."""
    speedup, every = findings.speedup, findings.every_step_speedup
    if findings.needs_no_rounds and every is not None:
        hosts = findings.links.num_hosts
        return (
            f"no rounds are needed: {hosts} hosts that commit every step are {times(every)} times faster than one host"
        )
    if speedup is None:
        who = "one host never" if findings.best_one_host is None else "no rounds ever"
        return f"no comparison: {who} reached the goal with the choices that were tried"
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
