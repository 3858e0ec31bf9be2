"""The plots of the links study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distbp.pages.drawing import SERIES, TEXT, Plot, draw, use_log_axes
from distbp.study.links.findings import LinksFindings, WayFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = ("o", "s", "D", "^")


def plot_links(findings: LinksFindings) -> list[Plot]:
    """Return all plots of the study."""
    return [_plot_seconds(findings), _plot_errors(findings)]


def _by_replicas(findings: LinksFindings) -> dict[int, Sequence[WayFinding]]:
    counts = sorted({way.way.replicas for way in findings.rounds})[: len(SERIES)]
    return {count: [way for way in findings.rounds if way.way.replicas == count] for count in counts}


def _plot_seconds(findings: LinksFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for (count, ways), mark, color in zip(_by_replicas(findings).items(), MARKS, SERIES, strict=False):
            shown = [(way.way.steps or 1, way.seconds) for way in ways if way.seconds is not None]
            if shown:
                axes.plot(*zip(*shown, strict=True), f"{mark}-", color=color, label=_replicas(count))
        best = findings.best_one_host
        if best is not None and best.seconds is not None:
            axes.axhline(best.seconds, color=TEXT, linewidth=1, linestyle=":", label=best.way.name)
        use_log_axes(axes, "steps between two commits", "seconds to the goal")
        axes.legend(loc="best")

    caption = f"Seconds to {100 * findings.goal:.3g} % validation error, links of {findings.links.mbit_s:g} Mbit/s."
    return draw("seconds", caption, paint)


def _plot_errors(findings: LinksFindings) -> Plot:
    lengths = sorted({way.way.steps or 1 for way in findings.rounds})

    def paint(axes: Axes) -> None:
        for (count, ways), mark, color in zip(_by_replicas(findings).items(), MARKS, SERIES, strict=False):
            shown = [(lengths.index(way.way.steps or 1), 100 * way.error) for way in ways if way.error is not None]
            if shown:
                axes.plot(*zip(*shown, strict=True), f"{mark}-", color=color, label=_replicas(count))
        if findings.every_step.error is not None:
            label = "every step committed"
            axes.axhline(100 * findings.every_step.error, color=TEXT, linewidth=1, linestyle=":", label=label)
        axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
        axes.set_xlabel("steps between two commits")
        axes.set_ylabel("error at the end (%)")
        axes.legend(loc="best")

    return draw("errors", "The validation error after equally many examples, rates tuned for each.", paint)


def _replicas(count: int) -> str:
    return f"{count} replica{'s' * (count > 1)}"
