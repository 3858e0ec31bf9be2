"""The plots of the order study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distbp.pages.drawing import SERIES, TEXT, Plot, draw, use_log_axes
from distbp.study.order.findings import KindFinding, OrderFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = ("o", "s", "D")
LABELS = ("another order", "another initialisation", "one flipped bit")


def plot_order(findings: OrderFindings) -> list[Plot]:
    """Return all plots of the study."""
    mini = f"Distance from the reference run, batches of {findings.batch_size}."
    full = "The same with the full batch: another order changes nothing at all."
    return [
        _plot_distances("distances", mini, findings.mini, findings.steps),
        _plot_distances("full_distances", full, findings.full, findings.full_steps),
        _plot_errors(findings),
        *([_plot_windows(findings)] if findings.windows else []),
    ]


def _plot_distances(name: str, caption: str, kinds: Sequence[KindFinding], steps: Sequence[int]) -> Plot:
    def paint(axes: Axes) -> None:
        for kind, label, mark, color in zip(kinds, LABELS, MARKS, SERIES, strict=False):
            means = kind.mean_distances
            shown = [(max(step, 0.5), mean) for step, mean in zip(steps, means, strict=True) if mean > 0]
            if not shown:
                axes.plot([], [], mark, color=color, label=f"{label}: exactly 0")
                continue
            for run in kind.distances:
                points = [(max(step, 0.5), d) for step, d in zip(steps, run, strict=True) if d > 0]
                axes.plot(*zip(*points, strict=True), color=color, linewidth=0.7, alpha=0.35)
            axes.plot(*zip(*shown, strict=True), f"{mark}-", color=color, label=label)
        use_log_axes(axes, "step (the start is drawn at 0.5)", "distance / way of the reference")
        axes.legend(loc="lower right")

    return draw(name, caption, paint)


def _plot_windows(findings: OrderFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for place, window in enumerate(findings.windows):
            errors = [100 * error for error in window.errors]
            color = TEXT if window.window_blocks is None else SERIES[0]
            axes.plot([place] * len(errors), errors, "o", color=color, alpha=0.75)
            axes.plot([place - 0.25, place + 0.25], [100 * window.mean] * 2, color=color, linewidth=1.5)
        axes.set_xticks(range(len(findings.windows)), [window.label for window in findings.windows])
        axes.set_xlim(-0.6, len(findings.windows) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("validation error at the end (%)")

    return draw("windows", "Blocks sorted by class: every run, and the mean of each width of window.", paint)


def _plot_errors(findings: OrderFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for row, (kind, color) in enumerate(zip(findings.mini, SERIES, strict=False)):
            errors = [100 * error for error in kind.errors[1:]]
            offsets = [row - 0.25 + 0.5 * (i + 0.5) / len(errors) for i in range(len(errors))]
            axes.plot(errors, offsets, "o", color=color, alpha=0.75)
        axes.axvline(100 * findings.mini[0].errors[0], color=TEXT, linewidth=1, linestyle=":", label="reference run")
        axes.set_yticks(range(len(LABELS)), LABELS)
        axes.set_ylim(len(LABELS) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("validation error at the end (%)")
        axes.legend(loc="best")

    return draw("errors", "The final error of every run.", paint, height_in=2.8)
