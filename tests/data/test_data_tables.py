"""CSV and Parquet: columns, types, and what tables that cannot be used say."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from data_files import write_csv, write_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.config import Data
from distbp.data import prepare, read_examples
from distbp.errors import DataError

FLOATS = st.floats(-1e30, 1e30)


def prepare_all(source, **settings):
    return prepare(Data(source=str(source), validation=0.0, scaling="none", **settings), seed=0)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(FLOATS, st.integers(-(2**40), 2**40), st.booleans(), FLOATS), min_size=1, max_size=8),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
def test_tables_round_trip(tmp_path, rows, suffix):
    columns = dict(zip(("a", "b", "c", "y"), map(list, zip(*rows, strict=True)), strict=True))
    write = write_csv if suffix == ".csv" else write_parquet
    # A CSV column of floats that all print as 1.0 would still be floats, so the target's type is not in doubt.
    train = prepare_all(write(tmp_path / f"d{suffix}", columns), task="regression").train
    np.testing.assert_array_equal(train.x, np.array([row[:3] for row in rows], float))
    np.testing.assert_array_equal(train.y[:, 0], columns["y"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\n", "is not a CSV file"),
        ("a,y\n", "has columns but no rows"),
        ("a,y\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("a,a,y\n1,2,3\n", "more than one column named 'a'"),
        (",a,y\n0,1,2\n", "column 1 of .* has no name.*index=False"),
        ("a,y\n1,2\n,3\n", "column 'a' of .* is empty in data row 2"),
        ("a,y\n1,2\nNA,3\n", "column 'a' of .* is empty in data row 2"),
        ("a,y\n1,\n2,3\n", "column 'y' of .* is empty in data row 1"),
        ("a,y\n1,up\n2,\n", "column 'y' of .* is empty in data row 2"),
        ("a,y\nred,1\nblue,2\n", "column 'a' of .* such as 'red'; encode it as numbers or drop it"),
        ("a,y\n2020-01-01,1\n2020-01-02,2\n", "column 'a' of .* holds date32.* such as '2020-01-01'"),
        ("a,b\n1,2\n", "has no target column, its columns are 'a', 'b'; set target"),
        ("5.1,3.5\n4.9,3.0\n", "is the header line missing"),
        ("label,y,a\n1,2,3\n", "'label', 'y', each of which could be the target"),
        ("a,y\n\xff,1\n2,2\n", "column 'a' of .* is not UTF-8 text"),
        ("y\n1\n", "no column besides the target 'y'"),
        ("a;y\n1;2\n", "has no target column, its columns are 'a;y'"),
        ("a,y\ninf,1\n2,2\n", "1 values that cannot be used, the first: column 'a' in data row 1 is inf"),
        ("a,y\n1,1e39\n2,2.5\n", r"the first: column 'y' in data row 1 is 1e\+39"),
    ],
)
def test_csv_that_cannot_be_used_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "d.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=sentence):
        prepare_all(path)


def test_missing_target_column_suggests_the_nearest(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"width": [1, 2], "species": ["a", "b"]})
    with pytest.raises(DataError, match=r"no target column 'specie'; did you mean 'species'\?"):
        prepare_all(path, target="specie")


def test_missing_feature_column_is_named(tmp_path):
    schema = prepare_all(write_csv(tmp_path / "d.csv", {"width": [1, 2], "y": ["a", "b"]})).schema
    other = write_csv(tmp_path / "e.csv", {"widht": [1, 2], "y": ["a", "b"]})
    with pytest.raises(DataError, match=r"no feature column 'width'; did you mean 'widht'\?"):
        read_examples(schema, str(other), None, need_targets=True)


def test_several_targets_are_regression(tmp_path):
    columns = {"a": [1, 2], "up": [1, 2], "down": [0.5, 0.25]}
    prepared = prepare_all(write_csv(tmp_path / "d.csv", columns), target=("down", "up"))
    assert prepared.schema.task == "regression"
    assert prepared.schema.target_names == ("down", "up")
    assert prepared.train.y.tolist() == [[0.5, 1], [0.25, 2]]


def test_text_classes_stay_text_where_other_data_looks_like_numbers(tmp_path):
    schema = prepare_all(write_csv(tmp_path / "d.csv", {"a": [1, 2, 3], "y": ["01", "x", "02"]})).schema
    other = write_csv(tmp_path / "e.csv", {"a": [1, 2], "y": ["02", "01"]})
    assert read_examples(schema, str(other), None, need_targets=True).y.tolist() == [1, 0]


def test_parquet_categories_decimals_and_pandas_indices_are_read(tmp_path):
    columns = {
        "price.net": pa.array([Decimal("1.5"), Decimal("2.25")]),
        "size": pa.array(np.array([1.5, 2.5], np.float16)),
        "y": pa.array(["b", "a"]).dictionary_encode(),
        "__index_level_0__": pa.array(["p", "q"]),
    }
    prepared = prepare_all(write_parquet(tmp_path / "d.parquet", columns))
    assert prepared.schema.feature_names == ("price.net", "size")
    assert prepared.train.x.tolist() == [[1.5, 1.5], [2.25, 2.5]]
    assert prepared.train.y.tolist() == [1, 0]


def test_parquet_column_of_lists_is_refused(tmp_path):
    path = write_parquet(tmp_path / "d.parquet", {"a": [[1], [2]], "y": [0.5, 1.5]})
    with pytest.raises(DataError, match=r"feature column 'a' of .* holds list"):
        prepare_all(path)
