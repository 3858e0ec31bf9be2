"""The folder of the workers study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from distbp.pages.drawing import write_plots
from distbp.pages.page import write_page
from distbp.pages.tables import Sheet, write_sheets, write_summary
from distbp.pages.words import count, duration, percent, times
from distbp.study.workers.extrapolation import BANDWIDTHS, LATENCY_S, find_knee
from distbp.study.workers.findings import WorkersFindings
from distbp.study.workers.plots import name_rate, name_servers, plot_workers, server_choices

SETTING_COLUMNS = ("workers", "servers", "num_parameters", "batch_size", "microbatch_size", "cores")
PART_COLUMNS = ("compute_s", "waiting_s", "transfer_s", "commit_s")


def write_workers_report(findings: WorkersFindings, folder: Path) -> Path:
    """Write plots, numbers, summary and report.html, and return the page's path."""
    plots = plot_workers(findings)
    write_plots(plots, folder / "plots")
    write_sheets(_sheets(findings), folder / "numbers")
    write_summary(summarize(findings), folder / "summary.json")
    choices = server_choices(findings)
    by_choice = {
        (rate, choice): [p for p in findings.targets if p.bits_per_s == rate and p.server_choice == choice]
        for rate in BANDWIDTHS
        for choice in choices
    }
    values = {
        "title": "What more workers bring",
        "f": findings,
        "source": "the handwritten digits" if findings.source == "digits" else f"'{findings.source}'",
        "strong": findings.strong(findings.ray),
        "strong_local": findings.strong(findings.local),
        "weak": findings.weak(findings.ray),
        "by_choice": by_choice,
        "knees": {key: find_knee(chosen) for key, chosen in by_choice.items()},
        "bests": {key: min(chosen, key=lambda p: p.seconds) for key, chosen in by_choice.items()},
        "name_rate": name_rate,
        "name_servers": name_servers,
        "latency_s": LATENCY_S,
    }
    page = folder / "report.html"
    write_page(page, "study/workers/report.html.j2", values, plots)
    return page


def describe(findings: WorkersFindings) -> dict[str, str | None]:
    """Return the few lines that a terminal shows."""
    strong = findings.strong(findings.ray)
    first, best = strong[0], min(strong, key=lambda m: m.parts.step_s)
    faster = times(first.parts.step_s / best.parts.step_s)
    choice = server_choices(findings)[-1] if findings.targets else None
    chosen = [p for p in findings.targets if p.bits_per_s == BANDWIDTHS[1] and p.server_choice == choice]
    knee = find_knee(chosen) if chosen else None
    return {
        "best on Ray": f"{count(best.setting.workers, 'worker')}: {faster} times as fast as 1 "
        f"(batch {findings.strong_batch_size:,}, {findings.cores} cores)",
        "cost model": f"off by {percent(findings.median_error)} (median), {percent(findings.largest_error)} (largest) "
        f"where it was not fitted",
        "prediction": None
        if knee is None
        else f"at 10 Gbit/s the knee is at {count(knee.workers, 'worker')}: {duration(knee.seconds)} to the goal",
    }


def summarize(findings: WorkersFindings) -> dict[str, Any]:
    """Return what was found: `summary.json`, and what `--json` prints."""
    values = asdict(findings)
    values |= {"median_error": findings.median_error, "largest_error": findings.largest_error}
    return values


def _sheets(findings: WorkersFindings) -> Iterator[Sheet]:
    yield Sheet(
        "steps",
        ("backend", *SETTING_COLUMNS, *PART_COLUMNS, "step_s"),
        [
            (kind, *astuple(m.setting), *astuple(m.parts), m.parts.step_s)
            for kind, group in (("local", findings.local), ("ray", findings.ray))
            for m in group
        ],
    )
    yield Sheet(
        "checks",
        (*SETTING_COLUMNS, "measured_s", "predicted_s", "error"),
        [(*astuple(c.measured.setting), c.measured.parts.step_s, c.predicted_s, c.error) for c in findings.checked],
    )
    yield Sheet(
        "predicted_targets",
        ("bits_per_s", "server_choice", "workers", "servers", "batch_size", "step_s", "seconds", "worker_seconds"),
        [(*astuple(p), p.worker_seconds) for p in findings.targets],
    )
    yield Sheet(
        "predicted_steps",
        ("num_parameters", "bits_per_s", "workers", "servers", "examples_per_worker", "steps_per_s"),
        [astuple(p) for p in findings.large],
    )
    yield Sheet("stragglers", ("workers", "chance", "slowdown", "harmonic"), [astuple(s) for s in findings.straggling])
