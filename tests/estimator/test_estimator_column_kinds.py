"""How a user says that a column of numbers is a category, as README.md of the estimators tells it."""

from __future__ import annotations

import numpy as np
import pytest
from examples import mixed

from distbp.sklearn import DistbpClassifier

pytestmark = pytest.mark.slow

NAMED = {"data": {"columns": {"zip": "category"}}}


def test_a_kind_is_named_in_a_table_with_other_columns():
    table, y = mixed()
    table = table.append_column("zip", [np.arange(200) % 5])
    model = DistbpClassifier(max_iter=2, recipe=NAMED).fit(table, y)
    assert model.recipe_.data.columns["zip"] == "category"
    assert DistbpClassifier(max_iter=2).fit(table, y).recipe_.data.columns["zip"] == "number"


def test_a_pandas_category_is_one_among_numbers():
    pandas = pytest.importorskip("pandas")
    numbers = np.arange(200) % 5
    table = pandas.DataFrame({"zip": pandas.Categorical(numbers), "size": np.linspace(0, 1, 200)})
    model = DistbpClassifier(max_iter=60).fit(table, numbers % 2)
    assert model.recipe_.data.columns == {"zip": "category", "size": "number"}
    assert model.score(table, numbers % 2) == 1.0
