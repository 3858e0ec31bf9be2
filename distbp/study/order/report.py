"""The folder of the order study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distbp.pages.drawing import write_plots
from distbp.pages.page import write_page
from distbp.pages.tables import Sheet, write_sheets, write_summary
from distbp.pages.words import percent
from distbp.study.order.findings import OrderFindings
from distbp.study.order.plots import LABELS, plot_order
from distbp.study.order.windows import NUM_BLOCKS


def write_order_report(findings: OrderFindings, folder: Path) -> Path:
    """Write plots, numbers, summary and report.html, and return the page's path."""
    plots = plot_order(findings)
    write_plots(plots, folder / "plots")
    write_sheets(_sheets(findings), folder / "numbers")
    write_summary(summarize(findings), folder / "summary.json")
    values = {
        "title": "Does the order of the examples matter?",
        "f": findings,
        "labels": LABELS,
        "num_blocks": NUM_BLOCKS,
        "source": "the handwritten digits" if findings.source == "digits" else f"'{findings.source}'",
    }
    page = folder / "report.html"
    write_page(page, "study/order/report.html.j2", values, plots)
    return page


def describe(findings: OrderFindings) -> dict[str, str | None]:
    """Return the few lines that a terminal shows."""
    same = "the same bytes whatever the order" if findings.is_order_free else "DIFFERENT bytes in different orders"
    return {
        "full batch": f"{same} ({len(findings.full_digests)} orders)",
        **{
            label: f"{percent(kind.disagreement)} of predictions differ; error {percent(min(kind.errors))} to "
            f"{percent(max(kind.errors))}, distance {kind.mean_distances[-1]:.2g}"
            for label, kind in zip(LABELS, findings.mini, strict=True)
        },
        "sorted blocks": ", ".join(f"{w.label} {percent(w.mean)}" for w in findings.windows) or None,
    }


def summarize(findings: OrderFindings) -> dict[str, Any]:
    """Return what was found: `summary.json`, and what `--json` prints."""
    values = asdict(findings)
    for name, kinds in (("mini", findings.mini), ("full", findings.full)):
        for found, kind in zip(values[name], kinds, strict=True):
            found |= {"mean_distances": kind.mean_distances, "spread": kind.spread}
    for found, window in zip(values["windows"], findings.windows, strict=True):
        found |= {"mean": window.mean}
    return values | {
        "is_order_free": findings.is_order_free,
        "does_order_matter": findings.does_order_matter,
        "sampling_error": findings.sampling_error,
    }


def _sheets(findings: OrderFindings) -> Iterator[Sheet]:
    batches = (("mini", findings.mini, findings.steps), ("full", findings.full, findings.full_steps))
    yield Sheet(
        "distances",
        ("batch", "kind", "run", "step", "distance"),
        [
            (batch, kind.kind, i + 1, step, distance)
            for batch, kinds, steps in batches
            for kind in kinds
            for i, run in enumerate(kind.distances)
            for step, distance in zip(steps, run, strict=True)
        ],
    )
    yield Sheet(
        "errors",
        ("batch", "kind", "run", "error"),
        [(batch, k.kind, i, error) for batch, kinds, _ in batches for k in kinds for i, error in enumerate(k.errors)],
    )
    yield Sheet(
        "windows",
        ("window_blocks", "run", "error"),
        [(w.window_blocks or "all", i, error) for w in findings.windows for i, error in enumerate(w.errors)],
    )
    yield Sheet("full_digests", ("order", "digest"), list(enumerate(findings.full_digests)))
