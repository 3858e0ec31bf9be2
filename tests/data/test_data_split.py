"""The split into training and validation rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.data.split import split_rows
from distbp.errors import DataError


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 500), fraction=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 2**63 - 1))
def test_parts_are_ascending_disjoint_and_together_everything(count, fraction, seed):
    try:
        train, validation = split_rows(count, fraction, seed)
    except DataError:
        assert round(fraction * count) in (0, count)
        return
    parts = [train] if validation is None else [train, validation]
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        assert len(part) > 0
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(count))


def test_split_depends_on_seed_and_count_alone():
    first = split_rows(100, 0.2, seed=4)[1]
    np.random.default_rng().random()
    assert np.array_equal(first, split_rows(100, 0.2, seed=4)[1])
    assert not np.array_equal(first, split_rows(100, 0.2, seed=5)[1])


def test_too_few_examples_are_named_with_their_numbers():
    with pytest.raises(DataError, match=r"validation=0\.1 of 3 examples leaves 3 for training and 0 for validation"):
        split_rows(3, 0.1, seed=0)
