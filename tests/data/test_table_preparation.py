"""Columns become inputs as scikit-learn's imputer, encoder and scaler make them, measured on the training rows."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from data_files import write_csv, write_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from distbp.config import Data
from distbp.data import PreparedData, Schema, prepare, read_examples, take_features
from distbp.errors import DataError
from distbp.protocol.examples import Scaling

ROWS = 18
NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
WORDS = st.one_of(st.none(), st.sampled_from(["red", "green", "blue", "ä", "NA", " x"]))
calm = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, **fields: object) -> PreparedData:
    return prepare(Data.model_validate({"source": str(path), "target": "y", **fields}), seed=0)


def inputs(data: PreparedData, held_out: bool = False) -> np.ndarray:
    part = data.validation if held_out else data.train
    assert part is not None
    return part.ready("float64").take(slice(0, len(part)), "float64")[0]


@calm
@given(
    numbers=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=ROWS, max_size=ROWS),
    words=st.lists(st.tuples(WORDS, WORDS), min_size=ROWS, max_size=ROWS),
    scaling=st.sampled_from(["none", "min-max", "standard"]),
)
def test_inputs_are_those_of_scikit_learns_imputer_encoder_and_scaler(tmp_path, numbers, words, scaling):
    pytest.importorskip("sklearn", reason="the oracle is scikit-learn")
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

    a, b = ([*column, 1.5, 2.5] * 2 for column in zip(*numbers, strict=True))  # no column without values
    c, d = ([*column, "red", "green"] * 2 for column in zip(*words, strict=True))
    named = {"a": "number", "b": "number", "c": "category", "d": "category"}
    table = pa.table(
        {"a": pa.array(a, pa.float64()), "c": pa.array(c, pa.string()), "b": pa.array(b, pa.float64()),
         "d": pa.array(d, pa.string()).dictionary_encode(), "y": [0.5 * i for i in range(len(a))]}
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "d.parquet")
    data = read(tmp_path / "d.parquet", columns=named, scaling=scaling)
    train, held_out = data.train.rows, data.validation.rows
    x = np.array([[np.nan if v is None else v for v in column] for column in (a, b)]).T
    kinds = {"none": FunctionTransformer(), "min-max": MinMaxScaler(), "standard": StandardScaler()}
    scaled = make_pipeline(SimpleImputer(), kinds[scaling]).fit(x[train])
    gaps = MissingIndicator().fit(x[train])
    text = np.array([c, d], object).T
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(text[train])
    for rows, part in ((train, False), (held_out, True)):
        expected = np.hstack([scaled.transform(x[rows]), indicate(gaps, x[rows]), encoder.transform(text[rows])])
        np.testing.assert_allclose(inputs(data, part), expected, rtol=1e-9, atol=1e-9)


def indicate(gaps, x):
    """scikit-learn refuses gaps in a column that had none; there is no input for them."""
    return np.isnan(x)[:, gaps.features_].astype(float)


def columns() -> dict[str, list]:
    numbers = np.random.default_rng(3)
    return {
        "size": [None if i % 7 == 0 else round(v, 3) for i, v in enumerate(numbers.normal(size=60).tolist())],
        "plan": ["", *numbers.choice(["a", "b", "c"], 59).tolist()],
        "paid": [i % 3 == 0 for i in range(60)],
        "day": [date(2020 + i % 3, 1 + i % 12, 1 + i % 28) for i in range(60)],
        "row": list(range(60)),
        "name": [f"n{i}" for i in range(60)],
        "same": [3] * 60,
        "gap": [None] * 60,
        "y": numbers.choice(["up", "down"], 60).tolist(),
    }


def write_both(folder: Path) -> tuple[Path, Path]:
    found = columns()
    texts = {name: ["" if v is None else str(v) for v in column] for name, column in found.items()}
    typed = {name: pa.array(v, pa.float64()) if name in ("size", "gap") else v for name, v in found.items()}
    return write_csv(folder / "d.csv", texts), write_parquet(folder / "d.parquet", typed)


def test_every_column_has_the_kind_that_its_cells_say(tmp_path):
    for path in write_both(tmp_path):
        data = read(path)
        assert data.data.columns == {
            "size": "number", "plan": "category", "paid": "category", "day": "date",
            "row": "ignore", "name": "ignore", "same": "ignore", "gap": "ignore",
        }  # fmt: skip
        told = "\n".join(data.warnings)
        for reason in ("'row' numbers the rows", "'name' has another text in every row", "'same' is 3 in every row"):
            assert reason in told
        assert "'gap' has no values" in told


def test_text_and_parquet_of_one_table_give_the_same_inputs(tmp_path):
    text, binary = (inputs(read(path)) for path in write_both(tmp_path))
    np.testing.assert_array_equal(text, binary)


def test_a_table_that_is_read_again_with_the_kinds_that_were_chosen_is_the_same(tmp_path):
    path, _ = write_both(tmp_path)
    data = read(path)
    again = prepare(data.data, seed=0)
    assert again.data == data.data
    assert again.train.fingerprint() == data.train.fingerprint()
    assert again.schema.columns.used == data.schema.columns.used


def test_what_was_measured_survives_json(tmp_path):
    path, _ = write_both(tmp_path)
    schema = read(path).schema
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())), Scaling())
    assert again.to_json() == schema.to_json()
    np.testing.assert_array_equal(again.scaling.scale, schema.scaling.scale)


def test_columns_in_another_order_with_others_beside_them_give_the_same_inputs(tmp_path):
    path, _ = write_both(tmp_path)
    data = read(path, validation=0.0)
    found = columns()
    texts = {name: ["" if v is None else str(v) for v in found[name]] for name in reversed(found) if name != "y"}
    other = write_csv(tmp_path / "o.csv", {"more": range(60), **texts})
    examples = read_examples(data.schema, str(other), need_targets=False)
    np.testing.assert_array_equal(examples.ready("float64").take(slice(0, 60), "float64")[0], inputs(data))


def test_what_training_never_saw_has_its_place(tmp_path):
    path = write_parquet(tmp_path / "d.parquet", {"a": [1.0, 2.0] * 20, "c": ["p", "q"] * 20, "y": [1, 2] * 20})
    data = read(path, scaling="standard")
    table = pa.table({"c": ["new", None, "q", "p"], "a": [None, float("nan"), 1.0, 2.0]})
    x = take_features(data.schema, table).ready("float64").take(slice(0, 4), "float64")[0]
    np.testing.assert_allclose(x[:2, 0], 0, atol=1e-12)  # the mean, scaled
    np.testing.assert_array_equal(x[:, 1:], [[0, 0], [0, 0], [0, 1], [1, 0]])


def test_a_dictionary_of_numbers_is_a_category(tmp_path):
    table = {"a": pa.array(["10", "20", "30", None] * 10).dictionary_encode(), "y": ["p", "q"] * 20}
    data = read(write_parquet(tmp_path / "d.parquet", table))
    assert data.schema.feature_names == ("a=10", "a=20", "a=30", "a is empty")
    again = prepare(data.data, seed=0)
    assert again.train.fingerprint() == data.train.fingerprint()


def test_marks_among_numbers_are_gaps_and_said(tmp_path):
    cells = ["?", "1.5", "NA", "2.5", " 3 "] * 8
    data = read(write_csv(tmp_path / "d.csv", {"a": cells, "y": ["p", "q"] * 20}))
    assert data.data.columns == {"a": "number"}
    assert "column 'a' takes '?' and 'NA' for empty cells" in data.notes
    assert data.schema.feature_names == ("a", "a is empty")


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
def test_dates_become_their_parts_however_they_are_written(tmp_path, form):
    days = [datetime(2019 + i % 3, 1 + i % 12, 1 + i % 27) for i in range(40)]
    path = write_csv(tmp_path / "d.csv", {"day": [day.strftime(form) for day in days], "y": ["p", "q"] * 20})
    data = read(path, scaling="none", validation=0.0)
    assert data.schema.feature_names == ("day.year", "day.month", "day.day_of_year", "day.weekday")
    expected = [[d.year, d.month, d.timetuple().tm_yday, d.weekday()] for d in days]
    np.testing.assert_array_equal(inputs(data), expected)


def test_rows_without_a_target_are_left_out_and_counted(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"a": range(0, 80, 2), "y": ["", "1.5", "NA", "2.5"] * 10})
    data = read(path, validation=0.0)
    assert len(data.train) == 20
    assert "20 of 40 rows have no target, so they are left out" in data.notes
    assert data.schema.task == "regression"


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (["a", "b"] * 30, "classification"),
        ([True, False] * 30, "classification"),
        ([0, 1, 2] * 20, "classification"),
        ([0.0, 1.0] * 30, "classification"),
        ([*range(100, 130)] * 2, "regression"),
        ([0.5, 1.5] * 30, "regression"),
        (["1.5", "?"] * 30, "regression"),
    ],
)
def test_the_task_follows_the_targets(tmp_path, y, task):
    path = write_parquet(tmp_path / "d.parquet", {"a": list(range(0, 120, 2)), "y": y})
    assert read(path).schema.task == task


def test_one_message_names_every_columns_problem_and_the_setting_that_mends_it(tmp_path):
    table = {
        "list": [[1], [2]] * 20,
        "bytes": [b"\xff", b"\xfe"] * 20,
        "mixed": ["1", "2", "x"] * 13 + ["4"],
        "many": [f"v{i}" for i in range(40)],
        "ok": [1.5, 2.5] * 20,
        "y": ["p", "q"] * 20,
    }
    path = write_parquet(tmp_path / "d.parquet", table)
    with pytest.raises(DataError) as caught:
        read(path, columns={"mixed": "number", "many": "date", "nope": "number"})
    message = str(caught.value)
    for part in (
        "'list' holds list", "data.columns.list to ignore",
        "'bytes' holds bytes", "data.columns.bytes to ignore",
        "'mixed' is 'x' in data row 3", "data.columns.mixed to category or ignore",
        "'many' holds text such as 'v0' where dates", "data.columns names 'nope'",
    ):  # fmt: skip
        assert part in message
    assert "'ok'" not in message


def test_a_category_of_too_many_values_is_refused(tmp_path):
    path = write_parquet(tmp_path / "d.parquet", {"a": list(range(20_000)), "b": [0, 1] * 10_000, "y": [0, 1] * 10_000})
    with pytest.raises(DataError, match=r"'a' has 16,000 different values.*at most 10,000"):
        read(path, columns={"a": "category"})


def test_a_missing_column_at_prediction_is_a_sentence(tmp_path):
    data = read(write_parquet(tmp_path / "d.parquet", {"a": [1.0, 2.0] * 20, "c": ["p", "q"] * 20, "y": [1, 2] * 20}))
    with pytest.raises(DataError, match="the Table has no feature column 'c'"):
        take_features(data.schema, pa.table({"a": [1.0]}))


def test_codes_are_stored_compactly(tmp_path):
    words = [f"w{i % 200}" for i in range(2000)]
    path = write_parquet(
        tmp_path / "d.parquet", {"a": words, "b": [i % 2 == 0 for i in range(2000)], "y": [0, 1] * 1000}
    )
    data = read(path)
    assert data.train.x.itemsize == 2
    assert data.schema.num_inputs == 202
