"""The plots of a report. Runs keep their colour from plot to plot; dashes let equal curves show through each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distbp.pages.drawing import MUTED, SERIES, Plot, draw, label_of, short
from distbp.report.story import ACCOUNTS, RunStory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", (0, (5, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)))
PHASES = (
    ("compute_s", "computing"),
    ("transfer_s", "gradients and parameters under way"),
    ("commit_s", "commit"),
    ("data_s", "waiting for data"),
)


def plot_all(stories: Sequence[RunStory]) -> list[Plot]:
    """Return the plots for which these runs have numbers."""
    plots = []
    if any(len(story.losses[0]) for story in stories):
        plots.append(_plot_loss(stories))
    if any(e.accuracy is not None for story in stories for e in story.evaluations):
        plots.append(_plot_accuracy(stories))
    timed = [story for story in stories if story.times is not None]
    if timed:
        plots.append(_plot_steps(timed))
    finished = [story for story in stories if sum(story.accounts.values()) > 0]
    if finished:
        plots.append(_plot_accounts(finished))
    return plots


def _plot_loss(stories: Sequence[RunStory]) -> Plot:
    def paint(axes: Axes) -> None:
        is_one = len(stories) == 1
        for story, color, dash in _styled(stories):
            steps, losses = story.losses
            axes.plot(steps, losses, color=color, linestyle=dash, label="training" if is_one else label_of(story.name))
            if story.evaluations:
                points = [(e.step, e.loss) for e in story.evaluations]
                look: dict[str, Any] = {"color": SERIES[1], "label": "validation"} if is_one else {"color": color}
                axes.plot(*zip(*points, strict=True), "o", markersize=3, alpha=0.75, **look)
        axes.set(xlabel="step", ylabel="loss")
        _choose_scale(axes, [loss for story in stories for loss in story.losses[1]])
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.legend()

    return draw("loss", "Loss: lines are the training batches, dots the validation examples after each epoch.", paint)


def _choose_scale(axes: Axes, losses: Sequence[float]) -> None:
    positive = [loss for loss in losses if loss > 0]
    if positive and max(positive) > 30 * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: short(value))


def _plot_accuracy(stories: Sequence[RunStory]) -> Plot:
    from matplotlib.ticker import PercentFormatter

    def paint(axes: Axes) -> None:
        for story, color, dash in _styled(stories):
            points = [(e.step, e.accuracy) for e in story.evaluations if e.accuracy is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=color,
                    linestyle=dash,
                    marker="o",
                    ms=3,
                    label=label_of(story.name),
                )
        axes.set(xlabel="step", ylabel="accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.legend(loc="lower right")

    return draw("accuracy", "Accuracy on the validation examples after each epoch.", paint)


def _plot_steps(stories: Sequence[RunStory]) -> Plot:
    waits = any(story.times.data_s for story in stories if story.times is not None)  # data in memory are not waited for
    phases = PHASES if waits else PHASES[:-1]

    def paint(axes: Axes) -> None:
        left = np.zeros(len(stories))
        for (part, label), color in zip(phases, SERIES, strict=False):
            widths = np.array([1e3 * getattr(story.times, part) for story in stories])
            axes.barh(range(len(stories)), widths, 0.55, left=left, color=color, label=label)
            left += widths
        _finish_bars(axes, stories, "milliseconds of a step")

    text = "One step, split up (medians; of waiting for data the mean)." if waits else "One step, split up (medians)."
    return draw("steps", text, paint, height_in=1.5 + 0.42 * len(stories))


def _plot_accounts(stories: Sequence[RunStory]) -> Plot:
    def paint(axes: Axes) -> None:
        left = np.zeros(len(stories))
        for text, color in zip(ACCOUNTS.values(), (*SERIES, MUTED), strict=True):
            widths = np.array([story.accounts.get(text, 0.0) for story in stories])
            if color == MUTED and not widths.any():  # data in memory are not waited for
                continue
            axes.barh(range(len(stories)), widths, 0.55, left=left, color=color, label=text)
            left += widths
        _finish_bars(axes, stories, "seconds of the whole run")

    return draw("accounts", "Where the seconds of the run went.", paint, height_in=1.5 + 0.42 * len(stories))


def _finish_bars(axes: Axes, stories: Sequence[RunStory], label: str) -> None:
    axes.set_yticks(range(len(stories)), [label_of(story.name) for story in stories])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=label)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)


def _styled(stories: Sequence[RunStory]) -> list[tuple[RunStory, str, object]]:
    return [(s, SERIES[i % len(SERIES)], DASHES[i % len(DASHES)]) for i, s in enumerate(stories)]
