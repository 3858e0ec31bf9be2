"""A warm start on a table holds out examples and stops early, as the first fit does."""

from __future__ import annotations

import numpy as np
import pytest
from examples import mixed

from distbp.data.split import split_rows
from distbp.sklearn import DistbpClassifier, DistbpRegressor
from distbp.sklearn.examples import Targets, prepare_examples

pytestmark = pytest.mark.slow

EARLY = {"early_stopping": True, "warm_start": True, "validation_fraction": 0.25}


@pytest.mark.parametrize("estimator", [DistbpClassifier, DistbpRegressor])
def test_the_second_fit_stops_early_too(estimator):
    table, labels = mixed()
    y = labels if estimator is DistbpClassifier else (labels == "stays") * 10.0 + 500
    model = estimator(**EARLY, max_iter=60, n_iter_no_change=2, learning_rate="constant", tol=0.5).fit(table, y)
    assert len(model.validation_scores_) == model.n_iter_ < 60
    model.fit(table, y)
    assert len(model.validation_scores_) == model.n_iter_ < 60


def test_held_out_examples_are_those_of_the_first_fit_and_not_trained_on():
    table, y = mixed()
    first = DistbpClassifier(**EARLY, max_iter=2).fit(table, y)
    train_rows, held_out = split_rows(len(y), 0.25, first.recipe_.seed)
    spoilt = np.array(y)
    spoilt[held_out] = np.where(y[held_out] == "stays", "leaves", "stays")
    same = DistbpClassifier(**EARLY, max_iter=2).fit(table, y)
    first.fit(table, y)
    same.fit(table, spoilt)
    assert (first.recipe_.epochs, len(train_rows)) == (2, 150)
    assert same.loss_curve_ == first.loss_curve_
    assert same.validation_scores_ == pytest.approx([1 - score for score in first.validation_scores_])


def test_weights_are_split_with_their_examples():
    table, y = mixed()
    model = DistbpClassifier(**EARLY, max_iter=2).fit(table, y)
    weights = np.arange(1.0, len(y) + 1)
    schema = model.network_.schema
    numbers = np.searchsorted(model.classes_, y)
    spec = Targets(numbers, _spec(schema), weights)
    found = prepare_examples(model, table, spec, model.recipe_.data, model.recipe_.seed, schema)
    train_rows, held_out = split_rows(len(y), 0.25, model.recipe_.seed)
    assert (found.train.weights[found.train.rows] == weights[train_rows]).all()
    assert (found.validation.weights[found.validation.rows] == weights[held_out]).all()


def _spec(schema):
    from distbp.data.targets import TargetSpec

    return TargetSpec("classification", (0, 1), schema.num_outputs)
