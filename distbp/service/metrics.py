"""A run's figures as metrics of Ray, which every node hands to Prometheus; deploy/grafana-dashboard.json shows them.

Ray puts `ray_` before each name, and `_total` after those that only rise.
"""

from __future__ import annotations

import math
import time

from ray.util.metrics import Counter, Gauge

from distbp.training import Progress

INTERVAL_S = 1.0
"""Recording everything takes as long as a small step; so it happens once a second."""

_GAUGES = {
    "step": "Steps done.",
    "planned_steps": "Steps that the whole run has.",
    "loss": "Training loss, mean of the epoch under way.",
    "validation_loss": "Loss on the validation examples, after the last whole epoch.",
    "validation_accuracy": "Share of the validation examples told right, after the last whole epoch.",
    "workers": "Workers in the group.",
    "goodput": "Share of the run's seconds that went into steps which count.",
    "workers_lost": "Workers lost in this session of the run.",
    "recoveries": "Times that workers were lost and the run went on.",
}
_COUNTERS = {
    "steps": "Steps done in this session of the run.",
    "examples": "Examples trained on in this session of the run.",
}
_PHASES = ("compute", "transfer", "commit", "data")
_ACCOUNTS = ("work", "waiting", "recomputing", "checkpointing", "data")


class RunMetrics:
    """An observer of a run on Ray: takes in every step, and records once a second and at the end."""

    def __init__(self) -> None:
        self._phases = dict.fromkeys(_PHASES, 0.0)
        self._due = 0.0
        self._metrics: _Metrics | None = None

    def __call__(self, progress: Progress) -> None:
        """Take in a step."""
        report = progress.report
        self._phases["compute"] += report.compute_s
        self._phases["transfer"] += report.wait_s
        self._phases["commit"] += report.commit_s
        self._phases["data"] += report.data_s
        if self._metrics is None:  # not before Ray is connected to
            self._metrics = _Metrics(progress)
        if time.monotonic() >= self._due:
            self._metrics.record(progress, self._phases)
            self._due = time.monotonic() + INTERVAL_S

    def finish(self, progress: Progress) -> None:
        """Record how the run ended."""
        if self._metrics is not None:
            self._metrics.record(progress, self._phases)


class _Metrics:
    """The metrics of one session of a run. Counters begin with it, so that rates are right after a resume."""

    def __init__(self, first: Progress):
        tags = {"run": first.run}
        self._gauges = {
            name: Gauge(f"distbp_{name}", text, ("run",)).set_default_tags(tags) for name, text in _GAUGES.items()
        }
        self._counters = {
            name: Counter(f"distbp_{name}", text, ("run",)).set_default_tags(tags) for name, text in _COUNTERS.items()
        }
        self._phases = Counter(
            "distbp_step_seconds",
            "Seconds of the steps: computing (the slowest worker), transfer of gradients and parameters, commit, "
            "waiting for data.",
            ("run", "phase"),
        ).set_default_tags(tags)
        self._accounts = Counter(
            "distbp_seconds",
            "Seconds of the run: work (steps that count), waiting for workers, recomputing steps, checkpointing, "
            "waiting for data.",
            ("run", "account"),
        ).set_default_tags(tags)
        self._counted = _before(first)

    def record(self, progress: Progress, phases: dict[str, float]) -> None:
        for name, value in _gauge(progress).items():
            if value is not None and math.isfinite(value):
                self._gauges[name].set(value)
        totals = _count(progress)
        for name in _COUNTERS:
            self._add(self._counters[name], name, totals[name])
        for phase in _PHASES:
            self._add(self._phases, f"phase {phase}", phases[phase], {"phase": phase})
        for account in _ACCOUNTS:
            self._add(self._accounts, account, totals[account], {"account": account})

    def _add(self, counter: Counter, name: str, total: float, tags: dict[str, str] | None = None) -> None:
        """Count up to `total`; a run that went back to an older checkpoint has counted further already.

        name: of what is counted, no two alike.
        """
        risen = total - self._counted.get(name, 0.0)
        if risen > 0:
            counter.inc(risen, tags)
            self._counted[name] = total


def _gauge(progress: Progress) -> dict[str, float | None]:
    position = progress.position
    return {
        "step": position.step,
        "planned_steps": progress.num_steps,
        "loss": position.epoch_loss / position.epoch_examples if position.epoch_examples else position.train_loss,
        "validation_loss": position.validation_loss,
        "validation_accuracy": position.validation_accuracy,
        "workers": progress.num_workers,
        "goodput": position.goodput,
        "workers_lost": progress.num_lost,
        "recoveries": position.recoveries,
    }


def _count(progress: Progress) -> dict[str, float]:
    position = progress.position
    return {
        "steps": position.step,
        "examples": position.examples,
        "work": position.work_s,
        "waiting": position.waiting_s,
        "recomputing": position.recomputing_s,
        "checkpointing": position.checkpointing_s,
        "data": position.data_s,
    }


def _before(first: Progress) -> dict[str, float]:
    """Return what the sessions before had counted, when `first` is the first step of this one."""
    counted = _count(first)
    counted["steps"] -= 1
    counted["examples"] -= first.report.num_examples
    return counted
