"""scikit-learn's own checks of an estimator, all of them; the one that fails is named with its reason."""

from __future__ import annotations

from functools import partial

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from distbp.sklearn import DistbpClassifier, DistbpRegressor

pytestmark = pytest.mark.slow

EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
EXPECTED = {
    EQUIVALENCE: "a weight of 2 is not an example twice where batches are drawn, as for scikit-learn's own MLP with "
    "sgd and adam, which is checked with other parameters; so are these, below"
}
IN_ONE_BATCH = {
    "batch_size": 10**6,
    "max_iter": 60,
    "recipe": {"dtype": "float64", "data": {"scaling": "none", "target_scaling": "none"}},
}


@parametrize_with_checks(
    [DistbpClassifier(max_iter=20), DistbpRegressor(max_iter=50)], expected_failed_checks=lambda _: EXPECTED
)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize("make", [DistbpClassifier, DistbpRegressor])
def test_where_a_batch_is_all_examples_a_weight_of_two_is_an_example_twice(make):
    checks = estimator_checks_generator(make(**IN_ONE_BATCH))
    found = [(estimator, check) for estimator, check in checks if isinstance(check, partial)]
    equivalence = [pair for pair in found if pair[1].func.__name__ == EQUIVALENCE]
    assert len(equivalence) == 1
    for estimator, check in equivalence:
        check(estimator)
