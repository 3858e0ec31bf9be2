"""From the steps of a run to the points of its curves: means now and then, and each epoch's evaluation."""

from __future__ import annotations

import time
from dataclasses import dataclass

from distbp.training import Progress


@dataclass(frozen=True)
class Point:
    """One value of one curve."""

    name: str
    value: float
    step: int


class Points:
    """Takes in every step, which must cost next to nothing, and gives points of means over the steps in between."""

    def __init__(self, interval_s: float):
        self._interval_s = interval_s
        self._sums: dict[str, float] = {}
        self._num_steps = self._num_examples = 0
        self._began = self._due = 0.0
        self._epochs_seen: int | None = None

    def take(self, progress: Progress) -> list[Point]:
        """Return the points that a step completes, mostly none."""
        position = progress.position
        if self._epochs_seen is None:
            self._epochs_seen = position.epochs_evaluated
            self._began = time.monotonic()
            self._due = self._began + self._interval_s
        self._gather(progress)
        points = self._take_means(progress) if time.monotonic() >= self._due else []
        if position.epochs_evaluated != self._epochs_seen:
            points += self._take_evaluation(progress, position.step - 1)
        return points

    def take_rest(self, progress: Progress) -> list[Point]:
        """Return what is left at the end of a run, with its last evaluation."""
        means = self._take_means(progress) if self._num_steps else []
        return [*means, *self._take_evaluation(progress, progress.position.step)]

    def _gather(self, progress: Progress) -> None:
        report = progress.report
        values = {
            "loss/training": report.loss,
            "step_seconds/compute": report.compute_s,
            "step_seconds/transfer": report.wait_s,
            "step_seconds/commit": report.commit_s,
            "step_seconds/data": report.data_s,
        }
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._num_steps += 1
        self._num_examples += report.num_examples

    def _take_means(self, progress: Progress) -> list[Point]:
        step, now = progress.position.step, time.monotonic()
        points = [Point(name, total / self._num_steps, step) for name, total in self._sums.items()]
        points += [
            Point("speed/examples_per_second", self._num_examples / max(now - self._began, 1e-9), step),
            Point("run/workers", progress.num_workers, step),
            Point("run/goodput", progress.position.goodput, step),
        ]
        self._sums.clear()
        self._num_steps = self._num_examples = 0
        self._began, self._due = now, now + self._interval_s
        return points

    def _take_evaluation(self, progress: Progress, step: int) -> list[Point]:
        position = progress.position
        self._epochs_seen = position.epochs_evaluated
        values = {"loss/validation": position.validation_loss, "accuracy/validation": position.validation_accuracy}
        return [Point(name, value, step) for name, value in values.items() if value is not None]
