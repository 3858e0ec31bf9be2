"""scikit-learn's own checks of an estimator, all of them: none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from distbp.sklearn import DistbpClassifier, DistbpRegressor

pytestmark = pytest.mark.slow


@parametrize_with_checks([DistbpClassifier(), DistbpRegressor()])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)
