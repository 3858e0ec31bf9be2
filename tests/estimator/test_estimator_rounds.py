from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from distbp.sklearn import DistbpClassifier  # after the line that skips without scikit-learn

pytestmark = pytest.mark.slow


def test_an_estimator_learns_in_rounds_and_goes_on():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = (x.sum(axis=1) > 0).astype(int)
    model = DistbpClassifier(recipe={"rounds": {"steps": 2, "replicas": 2}}, warm_start=True, max_iter=30)
    first = model.fit(x, y).digest_
    assert model.score(x, y) > 0.9
    assert model.fit(x, y).digest_ != first
