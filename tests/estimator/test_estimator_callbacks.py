"""scikit-learn's callbacks, from 1.9 on: they see each epoch begin and end, and may end the fit."""

from __future__ import annotations

import pytest
from examples import blobs, plane

from distbp.sklearn import DistbpClassifier, DistbpRegressor

pytestmark = pytest.mark.slow

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


class Recorder:
    """A callback that notes what it is told, and asks to stop after `stop_after` epochs."""

    def __init__(self, stop_after: int = 10**9):
        self.seen: list[tuple[str, str]] = []
        self.scores: list[float] = []
        self.stop_after = stop_after

    def setup(self, estimator, context):  # noqa: ARG002  # scikit-learn's signature
        self.seen.append(("setup", context.task_name))

    def teardown(self, estimator, context):  # noqa: ARG002  # scikit-learn's signature
        self.seen.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):  # noqa: ARG002  # scikit-learn's signature
        self.seen.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):  # noqa: ARG002  # as above
        self.seen.append(("end", context.task_name))
        if fitted_estimator is not None and context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(X, y))
        return len(self.scores) >= self.stop_after


EPOCH = [("begin", "epoch"), ("end", "epoch")]


@pytest.mark.parametrize(("estimator", "data"), [(DistbpClassifier, blobs), (DistbpRegressor, plane)])
def test_each_epoch_is_a_task_with_an_estimator_that_predicts(estimator, data):
    x, y = data()
    recorder = Recorder()
    steady = {"learning_rate": "constant"}
    model = estimator(max_iter=5, **steady).set_callbacks(recorder).fit(x, y)
    fit = [("begin", "fit"), *EPOCH * 5, ("end", "fit")]
    assert recorder.seen == [("setup", "fit"), *fit, ("teardown", "fit")]
    assert recorder.scores == [
        estimator(max_iter=n, learning_rate="constant").fit(x, y).score(x, y) for n in range(1, 6)
    ]
    assert model.digest_ == estimator(max_iter=5, **steady).fit(x, y).digest_


def test_a_callback_may_end_the_fit():
    x, y = blobs()
    model = DistbpClassifier(max_iter=50, learning_rate="constant").set_callbacks(Recorder(stop_after=3)).fit(x, y)
    assert model.n_iter_ == 3
    assert model.digest_ == DistbpClassifier(max_iter=3, learning_rate="constant").fit(x, y).digest_


def test_each_task_that_began_ends_also_after_early_stopping():
    x, y = blobs()
    recorder = Recorder()
    model = DistbpClassifier(max_iter=500, early_stopping=True, n_iter_no_change=1).set_callbacks(recorder).fit(x, y)
    assert model.n_iter_ < 500
    for task in ("fit", "epoch"):
        assert recorder.seen.count(("begin", task)) == recorder.seen.count(("end", task))


def test_scikit_learns_scoring_monitor_and_progress_bar_work(capsys):
    x, y = blobs()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    bar = callback.ProgressBar()
    model = DistbpClassifier(max_iter=4).set_callbacks(monitor, bar).fit(x, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == 4
    assert rows[-1]["accuracy"] == model.score(x, y)
    assert "DistbpClassifier" in capsys.readouterr().out
