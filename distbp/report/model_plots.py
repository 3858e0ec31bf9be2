"""The plots of a network: confusion, predicted against true, calibration, importance of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.pages.drawing import MUTED, SERIES, TEXT, Plot, draw, label_of, short
from distbp.report.model import ModelStory, weigh
from distbp.training.measures import ClassMeasures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 20
MOST_NUMBERED = 10
"""Classes up to which cells of the confusion matrix are wide enough for numbers."""
MOST_TARGETS = 4
MOST_POINTS = 1500
MOST_BARS = 20
NUM_BINS = 10
LONGEST = 24


def plot_model(story: ModelStory) -> list[Plot]:
    """Return the plots that fit the task, in the order in which they are read."""
    plots = []
    if isinstance(story.report.measures, ClassMeasures) and len(story.class_names) <= MOST_CLASSES:
        plots.append(_plot_confusion(story.report.measures.confusion, story.class_names))
    if story.schema.task == "classification" or story.schema.labels is not None:
        plots.append(_plot_calibration(*_read_calibration(story)))
    else:
        names = story.target_names[:MOST_TARGETS]
        plots += [_plot_truth(story, place, name) for place, name in enumerate(names)]
    if story.importances:
        plots.append(_plot_importances(story))
    return plots


def _plot_confusion(confusion: tuple[tuple[int, ...], ...], names: list[str]) -> Plot:
    from matplotlib.patches import Rectangle

    counts = np.array(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(names)

    def paint(axes: Axes) -> None:
        for row, column in np.ndindex(size, size):
            share = shares[row, column]
            color = SERIES[2] if row == column else SERIES[1]
            axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=color, alpha=0.75 * share, lw=0))
            if size <= MOST_NUMBERED and counts[row, column]:
                axes.text(
                    column, row, short(float(counts[row, column])), ha="center", va="center", fontsize=9, color=TEXT
                )
        labels = [_shorten(name) for name in names]
        turned = max(map(len, labels)) > (8 if size <= 4 else 3)
        axes.set_xticks(range(size), labels, rotation=40 if turned else 0, ha="right" if turned else "center")
        axes.set_yticks(range(size), labels)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="the network says", ylabel="it is")
        axes.grid(visible=False)

    numbers = ", with numbers of examples" if size <= MOST_NUMBERED else ""
    caption = (
        f"Which class is taken for which: a row for each class as it is, a column for each answer{numbers}. Green is "
        "right, orange is wrong; the stronger the colour, the larger the share of the row."
    )
    return draw("confusion", caption, paint, height_in=min(6.5, 2.2 + 0.42 * size))


def _plot_truth(story: ModelStory, place: int, name: str) -> Plot:
    actual, predicted = story.actual[:, place], story.predicted[:, place]
    chosen = np.linspace(0, len(actual) - 1, min(len(actual), MOST_POINTS)).round().astype(int)

    def paint(axes: Axes) -> None:
        ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1.2, linestyle=(0, (5, 3)), label="right answers lie here")
        alpha = 0.7 if len(chosen) < 300 else 0.35
        axes.plot(actual[chosen], predicted[chosen], "o", color=SERIES[0], markersize=3.5, alpha=alpha, mew=0)
        axes.set(xlabel=f"{_shorten(name)}: what it is", ylabel="what the network says")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: short(value))
        axes.legend(loc="upper left")

    some = f" ({MOST_POINTS:,} of {len(actual):,} examples)" if len(chosen) < len(actual) else ""
    caption = f"Predicted against true{some}: a dot for each example; the further from the line, the larger the error."
    return draw(f"truth_{place}", caption, paint)


def _read_calibration(story: ModelStory) -> tuple[NDArray, NDArray, NDArray, str]:
    """Return probabilities (m,), whether each came true (m,), weights (m,), and what they are probabilities of."""
    weights = weigh(story)
    if story.schema.labels is not None:
        many = story.predicted.shape[1]
        names = ", ".join(story.target_names)
        return story.predicted.ravel(), story.actual.ravel() > 0.5, np.repeat(weights, many), f"labels ({names})"
    if len(story.class_names) == 2:
        return story.predicted[:, 1], story.actual == 1, weights, f"the class {story.class_names[1]}"
    is_right = story.predicted.argmax(axis=1) == story.actual
    return story.predicted.max(axis=1), is_right, weights, "the class that is named"


def calibrate(likely: NDArray, came_true: NDArray, weights: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return for each tenth of the probabilities that has examples: their mean, how often it came true, the weight."""
    bins = np.minimum((likely * NUM_BINS).astype(int), NUM_BINS - 1)
    totals = np.bincount(bins, weights, NUM_BINS)
    kept = totals > 0
    means = np.bincount(bins, weights * likely, NUM_BINS)[kept] / totals[kept]
    shares = np.bincount(bins, weights * came_true, NUM_BINS)[kept] / totals[kept]
    return means, shares, totals[kept]


def find_interval(shares: NDArray, counts: NDArray) -> tuple[NDArray, NDArray]:
    """Return the ends of Wilson's 95 % interval (1927) of shares among so many examples."""
    z = 1.96
    middle = (shares + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(shares * (1 - shares) / counts + z**2 / (4 * counts**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def _plot_calibration(likely: NDArray, came_true: NDArray, weights: NDArray, of: str) -> Plot:
    from matplotlib.ticker import PercentFormatter

    means, shares, totals = calibrate(likely, came_true, weights)
    chance = find_interval(shares, totals * len(weights) / weights.sum())

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (5, 3)), label="as often as it says")
        axes.vlines(means, *chance, color=SERIES[0], linewidth=1.4, alpha=0.5)
        axes.scatter(means, shares, s=18 + 220 * totals / totals.sum(), color=SERIES[0], linewidth=0, zorder=3)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=f"probability of {_shorten(of, 40)}")
        axes.set_ylabel("how often it is so")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="upper left")

    caption = (
        "Can its probabilities be believed? Examples in ten groups by what it says; a larger dot has more of them. On "
        "the line, 70 % is right seven times in ten; below it, the network is too sure. What lies within the thin "
        "lines may be chance (95 %)."
    )
    return draw("calibration", caption, paint)


def _plot_importances(story: ModelStory) -> Plot:
    shown = list(story.importances)[:MOST_BARS]
    factor = 1 if story.score_name == "R2" else 100

    def paint(axes: Axes) -> None:
        drops = [factor * one.drop for one in shown]
        spreads = [factor * one.spread for one in shown]
        axes.barh(range(len(shown)), drops, 0.6, xerr=spreads, color=SERIES[0], ecolor=MUTED)
        axes.set_yticks(range(len(shown)), [_shorten(label_of(one.name)) for one in shown])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=MUTED, linewidth=0.8)
        unit = "" if factor == 1 else " (percentage points)"
        axes.set(xlabel=f"{story.score_name} lost without the column{unit}")

    more = len(story.importances) - len(shown)
    left_out = f" The {more} columns worth least are left out." if more else ""
    caption = (
        f"What each column is worth: the {story.score_name} that is lost when its values are shuffled among the "
        f"examples (mean of 5 shuffles; the thin line is their spread).{left_out} Columns that say the same share "
        "their worth."
    )
    return draw("importance", caption, paint, height_in=1.1 + 0.27 * len(shown))


def _shorten(name: str, longest: int = LONGEST) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"
