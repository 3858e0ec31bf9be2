"""The folder of the batch-size study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distbp.pages.drawing import write_plots
from distbp.pages.page import write_page
from distbp.pages.tables import Sheet, write_sheets, write_summary
from distbp.pages.words import duration, number, percent, times
from distbp.study.batch_size.findings import BatchSizeFindings, judge_rules
from distbp.study.batch_size.plots import name_goal, plot_batch_size
from distbp.study.batch_size.scaling_rules import FACTOR


def write_batch_size_report(findings: BatchSizeFindings, folder: Path) -> Path:
    """Write plots, numbers, summary and report.html, and return the page's path."""
    plots = plot_batch_size(findings)
    write_plots(plots, folder / "plots")
    write_sheets(_sheets(findings), folder / "numbers")
    write_summary(summarize(findings), folder / "summary.json")
    values = {
        "title": "How mini-batches cut computation time",
        "f": findings,
        "source": "the handwritten digits" if findings.source == "digits" else f"'{findings.source}'",
        "name": lambda goal: name_goal(findings, goal),
        "factor": FACTOR,
        "rules_verdict": judge_rules(findings.rules, 100 if findings.measures_error else 1),
        "trials_each": max(len(search.trials) for search in findings.searches),
    }
    page = folder / "report.html"
    write_page(page, "study/batch_size/report.html.j2", values, plots)
    return page


def summarize(findings: BatchSizeFindings) -> dict[str, Any]:
    """Return what was found without the single trials: `summary.json`, and what `--json` prints."""
    values = asdict(findings)
    del values["searches"]
    for goal, found in zip(findings.goals, values["goals"], strict=True):
        if goal.fit is not None:
            found["fit"]["critical_batch_size"] = goal.fit.curve.critical_batch_size
            found["fit"]["min_examples"] = goal.fit.curve.min_examples
    values["steps"] = [{"batch_size": s.batch_size, "step_s": s.step_s} for s in findings.searches]
    values["fraction_of_full_step"] = findings.fraction_of_full_step
    values["loops"] = [{**asdict(loop), "factor": loop.factor} for loop in findings.loops]
    values["rules"] = [{**asdict(rule), "mean": rule.mean} for rule in findings.rules]
    return values


def describe(findings: BatchSizeFindings) -> dict[str, str | None]:
    """Return the few lines that a terminal shows."""
    goal, fit = findings.hardest, findings.hardest.fit
    name = name_goal(findings, goal.goal)
    if goal.best is None:
        return {"goal": f"{name}: no trial reached it; give more --minutes or easier --goals"}
    more = "more than " if goal.is_bound else ""
    full = goal.sizes[-1]
    return {
        "goal": name,
        "best batch": f"{goal.best.batch_size:,}: {duration(goal.best.seconds)}, {goal.best.steps:,} steps",
        "full batch": f"{full.batch_size:,}: {more}{duration(full.seconds)}, {full.steps:,} steps",
        "faster": "no: the full batch is the fastest"
        if full is goal.best
        else f"{more}{times(goal.times_faster)} times",
        "B_crit": None
        if fit is None
        else f"{number(fit.curve.critical_batch_size)} (fit misses by {percent(fit.residual)})",
        "slopes": None
        if goal.small_slope is None or goal.large_slope is None
        else f"{goal.small_slope:.2f} at the small end, {goal.large_slope:.2f} at the large end",
    }


def _sheets(findings: BatchSizeFindings) -> Iterator[Sheet]:
    yield Sheet(
        "goals",
        ("goal", "batch_size", "reached", "steps", "examples", "seconds", "learning_rate", "momentum"),
        [
            (g.goal, s.batch_size, s.reached, s.steps, s.examples, s.seconds)
            + ((s.candidate.learning_rate, s.candidate.momentum) if s.candidate else (None, None))
            for g in findings.goals
            for s in g.sizes
        ],
    )
    yield Sheet(
        "trials",
        ("batch_size", "trial", "learning_rate", "momentum", "ended", "steps", "lowest_error"),
        [
            (s.batch_size, i, t.candidate.learning_rate, t.candidate.momentum, t.result.ended, t.result.steps,
             min(point.error for point in t.result.curve))
            for s in findings.searches
            for i, t in enumerate(s.trials)
        ],
    )  # fmt: skip
    yield Sheet(
        "curves",
        ("batch_size", "trial", "step", "validation_loss", "validation_error"),
        [
            (s.batch_size, i, point.step, point.loss, point.error)
            for s in findings.searches
            for i, t in enumerate(s.trials)
            for point in t.result.curve
        ],
    )
    yield Sheet("steps", ("batch_size", "step_s"), [(s.batch_size, s.step_s) for s in findings.searches])
    yield Sheet(
        "noise",
        ("step", "error", "trace", "squared_norm", "noise_scale", "estimated_noise_scale"),
        [
            (r.step, r.error, r.exact.trace, r.exact.squared_norm, r.exact.scale, r.estimated.scale)
            for r in findings.readings
        ],
    )
    yield Sheet(
        "cosines",
        ("step", "batch_size", "mean", "percentile_10", "percentile_90"),
        [(r.step, c.batch_size, c.mean, c.low, c.high) for r in findings.readings for c in r.cosines],
    )
    yield Sheet(
        "rules",
        ("rule", "batch_size", "learning_rate", "seed", "error"),
        [(r.name, r.batch_size, r.learning_rate, i + 1, e) for r in findings.rules for i, e in enumerate(r.errors)],
    )
