"""What observers send elsewhere of a step's seconds: computing, transfer, commit, and waiting for data."""

from __future__ import annotations

from collections import Counter as Totals

import pytest

from distbp.protocol.messages import StepReport
from distbp.run.position import Position
from distbp.service import metrics
from distbp.service.metrics import RunMetrics
from distbp.service.points import Points
from distbp.training.progress import Progress

REPORTS = [StepReport(n, 0, 0.5, 8, "", True, 0.5, 0.25, 0.125, data_s=data_s) for n, data_s in ((1, 4.0), (2, 0.0))]


def progress_after(report: StepReport, data_s: float) -> Progress:
    position = Position(step=report.step, examples=8 * report.step, work_s=3.0, data_s=data_s)
    return Progress(position, report, 2, 1, "run", 1, 0)


@pytest.fixture
def counted(monkeypatch) -> dict[str, Totals]:
    """The totals of the counters that a run has, by name, then by tag; nothing of Ray is started."""
    found: dict[str, Totals] = {}

    class Metric:
        def __init__(self, name: str, *_: object):
            self._totals = found.setdefault(name, Totals())

        def set_default_tags(self, _: object) -> Metric:
            return self

        def inc(self, value: float, tags: dict[str, str] | None) -> None:
            self._totals["".join((tags or {}).values())] += value

        def set(self, value: float) -> None:
            pass

    monkeypatch.setattr(metrics, "Counter", Metric)
    monkeypatch.setattr(metrics, "Gauge", Metric)
    return found


def test_metrics_count_the_wait_as_a_phase_and_in_the_runs_account(counted):
    observer = RunMetrics()
    observer(progress_after(REPORTS[0], 7.0))  # a resumed run: 7 s of waiting before this session and in its first step
    observer(progress_after(REPORTS[1], 9.0))
    observer.finish(progress_after(REPORTS[1], 9.0))
    expected = {"compute": 1.0, "transfer": 0.5, "commit": 0.25, "data": 4.0}
    assert counted["distbp_step_seconds"] == pytest.approx(expected)
    assert counted["distbp_seconds"] == pytest.approx({"data": 2.0})


def test_points_have_the_mean_wait_of_a_step():
    points = Points(interval_s=1e9)
    taken = [point for report in REPORTS for point in points.take(progress_after(report, 4.0))]
    assert taken == []
    means = {point.name: point.value for point in points.take_rest(progress_after(REPORTS[1], 4.0))}
    seconds = {name: value for name, value in means.items() if name.startswith("step_seconds/")}
    assert seconds == {
        "step_seconds/compute": 0.5,
        "step_seconds/transfer": 0.25,
        "step_seconds/commit": 0.125,
        "step_seconds/data": 2.0,
    }
