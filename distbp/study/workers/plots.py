"""The plots of the workers study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distbp.lab.cost_model import Measured
from distbp.pages.drawing import MUTED, SERIES, TEXT, Plot, draw, short, use_log_axes
from distbp.study.workers.extrapolation import BANDWIDTHS, Prediction, find_knee
from distbp.study.workers.findings import WorkersFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = (("compute_s", "compute"), ("waiting_s", "waiting"), ("transfer_s", "transfer"), ("commit_s", "commit"))
PREDICTED = "PREDICTION: workers with a core each"


def plot_workers(findings: WorkersFindings) -> list[Plot]:
    """Return all plots of the study."""
    strong, weak = findings.strong(findings.ray), findings.weak(findings.ray)
    plots = [
        _plot_parts("strong", f"One batch of {findings.strong_batch_size:,} shared by more and more workers.", strong,
                    findings.strong(findings.local)),
        _plot_parts("weak", f"{findings.weak_batch_size:,} examples for every worker: the batch grows with them.", weak,
                    findings.weak(findings.local)),
        _plot_check(findings),
    ]  # fmt: skip
    if findings.targets:
        plots.append(_plot_targets(findings))
    if findings.targets and min(findings.targets, key=lambda p: p.seconds).workers > 1:
        plots += [_plot_bandwidths(findings), _plot_cost(findings)]
    return [*plots, _plot_large(findings), _plot_straggling(findings)]


def name_rate(bits_per_s: float) -> str:
    """Return 10 Gbit/s."""
    return f"{bits_per_s / 1e9:g} Gbit/s"


def name_servers(choice: str) -> str:
    """Return how a choice of servers is called."""
    return "every worker a server" if choice == "each" else f"{choice} server{'s' if choice != '1' else ''}"


def _plot_parts(name: str, caption: str, ray: Sequence[Measured], local: Sequence[Measured]) -> Plot:
    def paint(axes: Axes) -> None:
        places = np.arange(len(ray))
        bottom = np.zeros(len(ray))
        for (part, label), color in zip(PARTS, SERIES, strict=True):
            heights = np.array([1e3 * getattr(m.parts, part) for m in ray])
            axes.bar(places, heights, 0.6, bottom=bottom, color=color, label=label)
            bottom += heights
        axes.plot(
            places, [1e3 * m.parts.step_s for m in local], "D", color=TEXT, markersize=6, label="one process, threads"
        )
        axes.set_xticks(places, [str(m.setting.workers) for m in ray])
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="workers on Ray, one parameter server", ylabel="milliseconds a step", ylim=(0, None))
        axes.set_ylim(0, 1.3 * max(bottom.max(), max(1e3 * m.parts.step_s for m in local)))
        axes.legend(loc="upper left", ncols=2)

    return draw(name, caption, paint)


def _plot_check(findings: WorkersFindings) -> Plot:
    def paint(axes: Axes) -> None:
        fitted = findings.fitted
        predicted = [findings.model.predict(m.setting).step_s for m in fitted]
        axes.plot([1e3 * m.parts.step_s for m in fitted], [1e3 * step_s for step_s in predicted],
                  "o", color=MUTED, fillstyle="none", label="fitted on")  # fmt: skip
        few = [c for c in findings.checked if c.measured.setting.workers <= findings.cores]
        many = [c for c in findings.checked if c.measured.setting.workers > findings.cores]
        for group, color, label in (
            (few, SERIES[0], "not fitted on: other sizes, servers"),
            (many, SERIES[1], "not fitted on: more workers than cores"),
        ):
            axes.plot([1e3 * c.measured.parts.step_s for c in group], [1e3 * c.predicted_s for c in group],
                      "o", color=color, label=label)  # fmt: skip
        low, high = axes.get_xlim()
        line = np.array([max(low, 0.05), high])
        axes.plot(line, line, color=MUTED, linewidth=1)
        axes.fill_between(line, line / 1.3, line * 1.3, color=MUTED, alpha=0.15, linewidth=0, label="within 30 %")
        use_log_axes(axes, "measured milliseconds a step", "predicted milliseconds")
        axes.legend(loc="upper left")

    return draw("check", "The cost model against measurements, most of which it was not fitted on.", paint)


def _select(findings: WorkersFindings, rate: float, choice: str) -> list[Prediction]:
    return [p for p in findings.targets if p.bits_per_s == rate and p.server_choice == choice]


def server_choices(findings: WorkersFindings) -> list[str]:
    """Return the numbers of servers that differ for this model; a small one cannot use many."""
    found: dict[tuple[int, ...], str] = {}
    for choice in dict.fromkeys(p.server_choice for p in findings.targets):
        key = tuple(p.servers for p in _select(findings, BANDWIDTHS[0], choice))
        found.setdefault(key, choice)
    return list(found.values())


def _plot_targets(findings: WorkersFindings) -> Plot:
    rate = BANDWIDTHS[1]

    def paint(axes: Axes) -> None:
        for choice, color in zip(server_choices(findings), SERIES, strict=False):
            chosen = _select(findings, rate, choice)
            axes.plot([p.workers for p in chosen], [p.seconds for p in chosen], color=color, linestyle="--",
                      label=name_servers(choice))  # fmt: skip
            knee = find_knee(chosen)
            axes.plot(knee.workers, knee.seconds, "o", color=color, markersize=7, fillstyle="none")
        first = _select(findings, rate, "1")[0]
        counts = np.array([1.0, 10_000.0])
        axes.plot(counts, first.seconds / counts, color=MUTED, linewidth=1, linestyle=":", label="perfect: 1 / workers")
        best = min(p.seconds for p in findings.targets)
        axes.set_ylim(best / 4, 3 * max(p.seconds for p in findings.targets if p.workers <= 1000))
        use_log_axes(axes, f"workers ({PREDICTED})", "seconds to the goal")
        axes.legend(loc="upper left")

    caption = (
        f"Prediction, {name_rate(rate)}: time to the goal when the batch grows with the workers; circles: the knee."
    )
    return draw("targets", caption, paint)


def _plot_bandwidths(findings: WorkersFindings) -> Plot:
    choice = server_choices(findings)[-1]

    def paint(axes: Axes) -> None:
        for rate, color in zip(BANDWIDTHS, SERIES, strict=False):
            chosen = _select(findings, rate, choice)
            axes.plot([p.workers for p in chosen], [1 / p.step_s for p in chosen], color=color, linestyle="--",
                      label=name_rate(rate))  # fmt: skip
        use_log_axes(axes, f"workers ({PREDICTED})", "steps per second")
        axes.legend(loc="lower left")

    return draw("bandwidths", f"Prediction: steps per second with {name_servers(choice)}, by bandwidth.", paint)


def _plot_cost(findings: WorkersFindings) -> Plot:
    def paint(axes: Axes) -> None:
        for rate, color in zip(BANDWIDTHS, SERIES, strict=False):
            chosen = _select(findings, rate, server_choices(findings)[-1])
            until = min(range(len(chosen)), key=lambda i: chosen[i].seconds) + 1
            axes.plot([p.seconds for p in chosen[:until]], [p.worker_seconds for p in chosen[:until]], "o--",
                      color=color, markersize=3.5, label=name_rate(rate))  # fmt: skip
            last = chosen[until - 1]
            axes.annotate(
                f" {short(last.workers)} workers", (last.seconds, last.worker_seconds), color=color, fontsize=8.5
            )
        use_log_axes(axes, "seconds to the goal (PREDICTION)", "worker-seconds paid")
        axes.legend(loc="upper right")

    return draw(
        "cost", "Prediction: what being faster costs. Each dot has more workers than the one to its right.", paint
    )


def _plot_large(findings: WorkersFindings) -> Plot:
    def paint(axes: Axes) -> None:
        chosen = [p for p in findings.large if p.bits_per_s == BANDWIDTHS[1]]
        for servers, color in zip((1, 10, 100), SERIES, strict=False):
            line = [p for p in chosen if p.servers == servers]
            axes.plot([p.workers for p in line], [p.steps_per_s * p.workers * p.examples for p in line], "o--",
                      color=color, label=name_servers(str(servers)))  # fmt: skip
        most = [max((p for p in chosen if p.workers == count), key=lambda p: p.servers) for count in
                dict.fromkeys(p.workers for p in chosen)]  # fmt: skip
        axes.plot([p.workers for p in most], [p.steps_per_s * p.workers * p.examples for p in most], "s--",
                  color=SERIES[3], label="as many as there can be")  # fmt: skip
        use_log_axes(axes, f"workers ({PREDICTED})", "examples per second")
        axes.legend(loc="upper left")

    caption = f"Prediction, 100 million parameters at {name_rate(BANDWIDTHS[1])}: servers are what lets workers count."
    return draw("large", caption, paint)


def _plot_straggling(findings: WorkersFindings) -> Plot:
    def paint(axes: Axes) -> None:
        counts = np.geomspace(1, 10_000, 200)
        axes.plot(counts, 100 * (1 - 0.99**counts), color=SERIES[0])
        marked = [s for s in findings.straggling if s.workers in (10, 100, 1000)]
        axes.plot([s.workers for s in marked], [100 * s.chance for s in marked], "o", color=SERIES[0])
        for s in marked:
            axes.annotate(f"{100 * s.chance:.0f} %  ", (s.workers, 100 * s.chance), ha="right", color=TEXT, fontsize=9)
        use_log_axes(axes, "workers", "steps with a slow worker (%)", is_log_y=False)

    return draw("straggling", "If 1 worker in 100 is slow at any time, how many steps wait for one.", paint)
