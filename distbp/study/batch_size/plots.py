"""The plots of the batch-size study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distbp.lab.noise import expected_cosine
from distbp.pages.drawing import MUTED, SERIES, TEXT, Plot, draw, use_log_axes
from distbp.pages.words import number, times
from distbp.study.batch_size.findings import BatchSizeFindings, GoalFinding, Search, SizeFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_CURVE_POINTS = 200
BATCH = "batch size (examples per step)"


def plot_batch_size(findings: BatchSizeFindings) -> list[Plot]:
    """Return all plots of the study that its trials allow."""
    plots = [_plot_steps(findings), _plot_examples(findings), _plot_seconds(findings), _plot_step_cost(findings)]
    if findings.hardest.best is not None:
        plots += [_plot_race(findings), _plot_rates(findings)]
    if findings.readings:
        plots += [_plot_cosines(findings), _plot_noise(findings)]
    return [*plots, _plot_rules(findings)]


def name_goal(findings: BatchSizeFindings, goal: float) -> str:
    """Return how a goal is called: 5 % error, or loss 0.3."""
    return f"{100 * goal:.2g} % error" if findings.measures_error else f"loss {number(goal)}"


def _plot_race(findings: BatchSizeFindings) -> Plot:
    """Validation error against seconds: the best mini-batch and the full batch."""
    goal = findings.hardest
    assert goal.best is not None  # asked by the caller

    def paint(axes: Axes) -> None:
        racers = ((goal.best, SERIES[0]), (goal.sizes[-1], SERIES[1]))
        for size, color in racers:
            assert size is not None
            search = _search_of(findings, size)
            x, y = _curve_of(search, goal.goal)
            label = (
                f"full batch ({size.batch_size:,})" if size is goal.sizes[-1] else f"mini-batch of {size.batch_size:,}"
            )
            axes.plot(x, y, color=color, label=label)
            if size.reached:
                axes.plot(x[-1], y[-1], "o", color=color, markersize=6)
        axes.axhline(goal.goal, color=MUTED, linestyle=":", linewidth=1.2)
        axes.annotate(
            f"goal: {name_goal(findings, goal.goal)}", (0.01, goal.goal), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", color=MUTED, fontsize=8.5,
        )  # fmt: skip
        use_log_axes(axes, "seconds of computing (one core)", _error_label(findings))
        axes.legend(loc="best")

    faster = f"{'more than ' if goal.is_bound else ''}{times(goal.times_faster)} times"
    return draw("race", f"The mini-batch is there {faster} sooner than the full batch, each with its best rate.", paint)


def _plot_steps(findings: BatchSizeFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for goal, color in zip(findings.goals, SERIES, strict=False):
            _plot_measured(axes, goal, "steps", color, name_goal(findings, goal.goal))
            _plot_fit(axes, goal, "steps", color)
        first = next((size for size in findings.hardest.sizes if size.reached), None)
        if first is not None:
            sizes = np.array([first.batch_size, first.batch_size * 256.0])
            axes.plot(sizes, first.steps * 0.45 * first.batch_size / sizes, color=TEXT, linestyle="--", linewidth=1.1,
                      label="slope -1: twice the batch, half the steps")  # fmt: skip
        _mark_critical(axes, findings.hardest)
        use_log_axes(axes, BATCH, "steps to the goal")
        axes.legend(loc="upper right")

    return draw("steps", "Steps to each goal against batch size; thin lines are the fitted hyperbolas.", paint)


def _plot_examples(findings: BatchSizeFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for goal, color in zip(findings.goals, SERIES, strict=False):
            _plot_measured(axes, goal, "examples", color, name_goal(findings, goal.goal))
            _plot_fit(axes, goal, "examples", color)
        _mark_critical(axes, findings.hardest)
        use_log_axes(axes, BATCH, "examples processed to the goal")
        axes.legend(loc="upper left")

    return draw("examples", "Examples to each goal: nearly constant up to the critical batch size, then wasted.", paint)


def _plot_seconds(findings: BatchSizeFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for goal, color in zip(findings.goals, SERIES, strict=False):
            _plot_measured(axes, goal, "seconds", color, name_goal(findings, goal.goal))
            if goal.best is not None:
                axes.plot(goal.best.batch_size, goal.best.seconds, "*", color=color, markersize=12)
        use_log_axes(axes, BATCH, "seconds to the goal (one core)")
        axes.legend(loc="best")

    return draw(
        "seconds", "Seconds to each goal; stars mark the fastest batch size, open circles goals not reached.", paint
    )


def _plot_step_cost(findings: BatchSizeFindings) -> Plot:
    sizes = np.array([search.batch_size for search in findings.searches])
    seconds = np.array([search.step_s for search in findings.searches])

    def paint(axes: Axes) -> None:
        axes.plot(sizes, 1e3 * seconds, "o-", color=SERIES[0], label="one step")
        axes.plot(sizes, 1e3 * seconds / sizes, "o-", color=SERIES[2], label="per example")
        use_log_axes(axes, BATCH, "milliseconds")
        axes.legend(loc="upper left")

    return draw("step_cost", "What a step costs, and what an example in it costs.", paint)


def _plot_rates(findings: BatchSizeFindings) -> Plot:
    goal = findings.hardest
    tuned = [(size.batch_size, size.candidate) for size in goal.sizes if size.candidate is not None]

    def paint(axes: Axes) -> None:
        sizes = np.array([size for size, _ in tuned], float)
        rates = np.array([candidate.effective_rate for _, candidate in tuned])
        axes.plot(sizes, rates, "o-", color=SERIES[0], label="best found")
        middle = float(np.exp(np.mean(np.log(rates[: max(1, len(rates) // 2)]))))
        at = float(np.exp(np.mean(np.log(sizes[: max(1, len(rates) // 2)]))))
        axes.plot(sizes, middle * sizes / at, color=MUTED, linestyle="--", linewidth=1.1, label="linear")
        axes.plot(sizes, middle * np.sqrt(sizes / at), color=MUTED, linestyle=":", linewidth=1.3, label="square root")
        axes.set_ylim(rates.min() / 3, rates.max() * 3)
        use_log_axes(axes, BATCH, "learning rate / (1 - momentum)")
        axes.legend(loc="upper left")

    return draw("rates", "The best effective learning rate found for each batch size, independently.", paint)


def _plot_cosines(findings: BatchSizeFindings) -> Plot:
    readings = findings.readings
    chosen = list(dict.fromkeys((0, len(readings) // 2, len(readings) - 1)))

    def paint(axes: Axes) -> None:
        for index, color in zip(chosen, SERIES, strict=False):
            reading = readings[index]
            sizes = np.array([c.batch_size for c in reading.cosines], float)
            axes.plot(sizes, [c.mean for c in reading.cosines], "o", color=color, label=f"after {reading.step:,} steps")
            axes.fill_between(sizes, [c.low for c in reading.cosines], [c.high for c in reading.cosines],
                              color=color, alpha=0.13, linewidth=0)  # fmt: skip
            fine = np.geomspace(sizes[0], sizes[-1], NUM_CURVE_POINTS)
            expected = [expected_cosine(reading.exact.scale, size, findings.num_examples) for size in fine]
            axes.plot(fine, expected, color=color, linewidth=1.1)
        use_log_axes(axes, BATCH, "cosine with the full gradient", is_log_y=False)
        axes.set_ylim(min(0, axes.get_ylim()[0]), 1.03)
        axes.legend(loc="lower right")

    caption = "How well a mini-batch's gradient points the true way: mean, middle 80 %, and 1/sqrt(1 + B_noise/B)."
    return draw("cosines", caption, paint)


def _plot_noise(findings: BatchSizeFindings) -> Plot:
    readings = findings.readings
    steps = [max(reading.step, 0.5) for reading in readings]

    def paint(axes: Axes) -> None:
        axes.plot(steps, [r.exact.scale for r in readings], "o-", color=SERIES[0], label="exact, from every example")
        axes.plot(steps, [r.estimated.scale for r in readings], "s", color=SERIES[1], fillstyle="none",
                  label="estimated from two batch sizes")  # fmt: skip
        fit = findings.hardest.fit
        if fit is not None:
            axes.axhline(fit.curve.critical_batch_size, color=SERIES[2], linestyle="--", linewidth=1.3,
                         label=f"B_crit of the fit: {number(fit.curve.critical_batch_size)}")  # fmt: skip
        use_log_axes(axes, "step (the start is drawn at 0.5)", "noise scale (examples)")
        axes.legend(loc="upper left")

    return draw("noise", f"The gradient noise scale along training with batches of {findings.walk_batch_size}.", paint)


def _plot_rules(findings: BatchSizeFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for row, rule in enumerate(findings.rules):
            color = SERIES[2] if row == 0 else SERIES[0]
            scale = 100 if findings.measures_error else 1
            axes.barh(row, scale * rule.mean, color=color, height=0.55)
            axes.plot([scale * e for e in rule.errors], [row] * len(rule.errors), "o", color=TEXT, markersize=3.5)
        axes.set_yticks(range(len(findings.rules)), [f"{r.name}\n(batch {r.batch_size})" for r in findings.rules])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("validation error at the end (%)" if findings.measures_error else "validation loss at the end")

    return draw("rules", "The same number of epochs with 32 times the batch, by rule; dots are single runs.", paint)


def _plot_measured(axes: Axes, goal: GoalFinding, quantity: str, color: str, label: str) -> None:
    reached = [size for size in goal.sizes if size.reached]
    missed = [size for size in goal.sizes if not size.reached]
    axes.plot([s.batch_size for s in reached], [getattr(s, quantity) for s in reached],
              "o-" if quantity == "seconds" else "o", color=color, label=label)  # fmt: skip
    axes.plot(
        [s.batch_size for s in missed], [getattr(s, quantity) for s in missed], "o", color=color, fillstyle="none"
    )


def _plot_fit(axes: Axes, goal: GoalFinding, quantity: str, color: str) -> None:
    if goal.fit is None:
        return
    sizes = np.geomspace(goal.sizes[0].batch_size, goal.sizes[-1].batch_size, NUM_CURVE_POINTS)
    curve = goal.fit.curve
    fitted = [curve.steps(size) if quantity == "steps" else curve.examples(size) for size in sizes]
    axes.plot(sizes, fitted, color=color, linewidth=1)


def _mark_critical(axes: Axes, goal: GoalFinding) -> None:
    if goal.fit is None:
        return
    critical = goal.fit.curve.critical_batch_size
    axes.axvline(critical, ymax=0.68, color=MUTED, linestyle=":", linewidth=1.2)
    axes.annotate(
        f" B_crit {number(critical)}", (critical, 0.02), xycoords=("data", "axes fraction"), color=MUTED, fontsize=8.5
    )


def _search_of(findings: BatchSizeFindings, size: SizeFinding) -> Search:
    return next(search for search in findings.searches if search.batch_size == size.batch_size)


def _curve_of(search: Search, goal: float) -> tuple[list[float], list[float]]:
    """Return seconds and errors of the batch size's best trial, from its first step to the goal."""
    best = search.best(goal)
    result = next(tried.result for tried in search.trials if tried.candidate == best)
    points = [point for point in result.curve if point.step > 0]
    end = next((i + 1 for i, point in enumerate(points) if point.error < goal), len(points))
    return [point.step * search.step_s for point in points[:end]], [point.error for point in points[:end]]


def _error_label(findings: BatchSizeFindings) -> str:
    return "validation error" if findings.measures_error else "validation loss"
