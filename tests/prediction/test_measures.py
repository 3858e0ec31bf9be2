"""Measures are those of scikit-learn, on random predictions with ties, rare classes and weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.training.measures import measure_classes, measure_numbers

metrics = pytest.importorskip("sklearn.metrics", reason="the oracle is scikit-learn")
calm = settings(max_examples=40, deadline=None)


def draw(seed: int, num_classes: int, weighted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    numbers = np.random.default_rng(seed)
    y = np.r_[np.arange(num_classes), numbers.integers(0, num_classes, 30)]
    scores = numbers.dirichlet(np.ones(num_classes), len(y)).round(1) + 0.01  # ties
    weights = numbers.uniform(0.1, 3, len(y)) if weighted else None
    return scores / scores.sum(axis=1, keepdims=True), y, weights


@calm
@given(seed=st.integers(0, 2**32), num_classes=st.integers(2, 5), weighted=st.booleans())
def test_measures_of_classes_are_scikit_learns(seed, num_classes, weighted):
    scores, y, weights = draw(seed, num_classes, weighted)
    found = measure_classes(scores, y, weights)
    called = scores.argmax(axis=1)
    given_ = {"sample_weight": weights}
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, called, **given_))
    assert found.log_loss == pytest.approx(metrics.log_loss(y, scores, labels=range(num_classes), **given_))
    hot = np.eye(num_classes)[y]
    if num_classes == 2:
        scores, hot = scores[:, 1], hot[:, 1]
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(hot, scores, average="macro", **given_))
    assert found.average_precision == pytest.approx(metrics.average_precision_score(hot, scores, **given_))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(y, called, labels=range(num_classes)))


@calm
@given(seed=st.integers(0, 2**32), num_targets=st.integers(1, 3), weighted=st.booleans())
def test_measures_of_numbers_are_scikit_learns(seed, num_targets, weighted):
    numbers = np.random.default_rng(seed)
    y, predicted = numbers.normal(size=(2, 20, num_targets))
    weights = numbers.uniform(0.1, 3, 20) if weighted else None
    found = measure_numbers(predicted, y, weights)
    given_ = {"sample_weight": weights}
    assert found.r2 == pytest.approx(metrics.r2_score(y, predicted, **given_))
    assert found.mae == pytest.approx(metrics.mean_absolute_error(y, predicted, **given_))
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(y, predicted, **given_))


def test_a_class_that_is_not_there_leaves_out_what_needs_it():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    found = measure_classes(scores, np.array([0, 1]))
    assert (found.roc_auc, found.average_precision) == (None, None)
    assert found.balanced_accuracy == 1
