"""The loss that an estimator tells of a weighted fit is the mean that the run itself has."""

from __future__ import annotations

import numpy as np
import pytest
from examples import blobs, plane

from distbp.run import RunDirectory
from distbp.sklearn import DistbpClassifier, DistbpRegressor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("estimator", "data"), [(DistbpClassifier, blobs), (DistbpRegressor, plane)])
def test_weighted_loss_is_that_of_the_result(tmp_path, estimator, data):
    x, y = data()
    weights = np.random.default_rng(3).exponential(size=len(x)) ** 3
    placement = {"storage": str(tmp_path)}
    model = estimator(max_iter=4, batch_size=32, placement=placement).fit(x, y, sample_weight=weights)
    run = RunDirectory.open(model.run_)
    assert model.loss_ == model.loss_curve_[-1] == run.read_result()["train_loss"]
    last = [record for record in run.read_steps() if record.epoch == 3]
    assert sum(record.weight for record in last) == pytest.approx(weights.sum())
    assert model.loss_ != np.average([r.loss for r in last], weights=[r.num_examples for r in last])


def test_weights_that_are_all_one_change_no_loss():
    x, y = blobs()
    plain, weighted = DistbpClassifier(max_iter=3), DistbpClassifier(max_iter=3)
    expected = plain.fit(x, y).loss_curve_
    assert weighted.fit(x, y, sample_weight=np.ones(len(x))).loss_curve_ == pytest.approx(expected)


def test_a_kept_log_without_weights_is_still_read(tmp_path):
    x, y = blobs()
    placement = {"storage": str(tmp_path)}
    model = DistbpClassifier(max_iter=3, placement=placement).fit(x, y)
    assert b"weight" not in RunDirectory.open(model.run_).folder.read("steps.jsonl")
    assert model.loss_ == RunDirectory.open(model.run_).read_result()["train_loss"]
