"""How every plot looks, and how it is written: as PNG and SVG files, and as SVG inside a page.

A plot is drawn once, in the light colours. Inside a page each colour becomes a CSS variable, so the same plot looks
right in light mode, in dark mode and in print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distbp.machine.aside import replace_file
from distbp.text.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

SERIES = ("#2563eb", "#d97706", "#059669", "#c026d3")
TEXT, MUTED, GRID = "#1f2937", "#6b7280", "#d9dde3"
VARIABLES = {**{color: f"var(--series-{i})" for i, color in enumerate(SERIES, start=1)}, TEXT: "var(--text)"}
VARIABLES |= {MUTED: "var(--muted)", GRID: "var(--line)"}

WIDTH_IN, HEIGHT_IN = 5.4, 3.7
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.grid.which": "major",
    "axes.labelcolor": TEXT,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72,
    "font.size": 9.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "text.color": TEXT,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.color": MUTED,
    "ytick.labelcolor": TEXT,
}


def label_of(name: str) -> str:
    """Return a user's name as a label: matplotlib leaves out labels that begin with an underscore."""
    return " " * name.startswith("_") + printable(name)


@dataclass(frozen=True)
class Plot:
    """One plot: the name of its files, what it shows in a sentence, and its SVG text in the light palette."""

    name: str
    caption: str
    svg: str
    png: bytes

    @property
    def inline_svg(self) -> str:
        """The SVG as part of a page: CSS variables as colours, a label for screen readers, no ids that could clash."""
        body = self.svg[self.svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
        body = re.sub(r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib\.axis|xtick|ytick)[\w.]*"', "", body)
        body = re.sub(r'<svg ([^>]*?)width="[\d.]+pt"', r"<svg \1", body, count=1)
        body = re.sub(r'<svg ([^>]*?)height="[\d.]+pt"', r"<svg \1", body, count=1)
        for color, variable in VARIABLES.items():
            body = body.replace(color, variable)
        label = self.caption.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return body.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def draw(name: str, caption: str, paint: Callable[[Axes], Any], height_in: float = HEIGHT_IN) -> Plot:
    """Return the plot that `paint` makes on one pair of axes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        paint(figure.add_subplot())
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": "distbp"})
        figure.savefig(png, format="png", dpi=200, facecolor="white", metadata={"Software": "distbp"})
    return Plot(name, caption, svg.getvalue(), png.getvalue())


def write_plots(plots: list[Plot], folder: Path) -> None:
    """Write every plot as PNG and SVG."""
    folder.mkdir(exist_ok=True)
    for plot in plots:
        for suffix, content in (("svg", plot.svg.encode()), ("png", plot.png)):
            with replace_file(folder / f"{plot.name}.{suffix}") as aside:
                aside.write_bytes(content)


def use_log_axes(axes: Axes, x: str, y: str, is_log_y: bool = True) -> None:
    """Label both axes with plain numbers; x is logarithmic, and y if asked for. Call it last."""
    axes.set(xscale="log", xlabel=x, ylabel=y)
    _label_plainly(axes.xaxis)
    if is_log_y:
        axes.set_yscale("log")
        _label_plainly(axes.yaxis)


def _label_plainly(axis: Axis) -> None:
    """Label powers of ten, and between them 2 and 5 where the axis spans less than two of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    low, high = axis.get_view_interval()
    if high < 60 * low:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_tick_params(which="minor", labelcolor=TEXT)
    else:
        axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """Return 0.05, 7, 2k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
