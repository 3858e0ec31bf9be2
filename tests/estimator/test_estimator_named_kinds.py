"""A kind that the user names counts in every table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from distbp.sklearn import DistbpClassifier, DistbpRegressor

KINDS = {"data": {"columns": {"zip": "category"}}}


@pytest.fixture
def table() -> tuple[pd.DataFrame, np.ndarray]:
    """All columns are numbers; y depends on which zip it is, not on how large."""
    rng = np.random.default_rng(0)
    zips = rng.integers(10, 16, 400)
    return pd.DataFrame({"zip": zips, "a": rng.normal(size=400)}), (zips % 2)


def test_named_category_of_whole_numbers_is_one(table):
    x, y = table
    model = DistbpClassifier(recipe=KINDS, max_iter=40).fit(x, y)
    kinds = {column.name: column.kind for column in model.network_.schema.columns.columns}
    assert kinds == {"zip": "category", "a": "number"}
    assert model.score(x, y) > 0.99
    assert (model.predict(x[["a", "zip"]]) == model.predict(x)).all()


def test_named_kind_of_a_table_gives_what_a_pandas_category_gives(table):
    x, y = table
    named = DistbpClassifier(recipe=KINDS, max_iter=2).fit(x, y)
    other = DistbpClassifier(max_iter=2).fit(x.astype({"zip": "str"}).astype({"zip": "category"}), y)
    assert named.digest_ == other.digest_


def test_named_kind_of_an_array_is_refused(table):
    x, y = table
    with pytest.raises(ValueError, match="'zip', and X is a ndarray"):
        DistbpRegressor(recipe=KINDS).fit(x.to_numpy(), y)


def test_named_kind_of_a_column_that_is_not_there_is_refused(table):
    x, y = table
    with pytest.raises(ValueError, match="zap"):
        DistbpClassifier(recipe={"data": {"columns": {"zap": "category"}}}).fit(x, y)
