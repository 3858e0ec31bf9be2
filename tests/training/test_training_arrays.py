"""Arrays and tables handed over in Python get the checks that files get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distbp import Placement, Recipe, TrainedRun, explain_run, load_run, train
from distbp.errors import DataError

NAMES = ("width", "height")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    folder = tmp_path_factory.mktemp("arrays")
    x = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    rows = [f"{a},{b},{'pq'[int(a > b)]}" for a, b in x]
    (folder / "d.csv").write_text("\n".join(["width,height,label", *rows]) + "\n")
    recipe = Recipe.model_validate({"data": {"source": str(folder / "d.csv")}, "global_batch_size": 8, "epochs": 2})
    return load_run(train(recipe, Placement(storage=str(folder / "runs"), workers=1), name="run").run)


def numbers() -> np.ndarray:
    return np.array([[0.5, -1], [2, 3], [-1, 0]])


def masked() -> np.ma.MaskedArray:
    return np.ma.masked_array(numbers(), mask=[[False, True], [False, False], [False, False]])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.array([[0, 1], [0, -np.inf]]), "column 'height' in data row 2 is -inf"),
        (np.full((1, 2), 1e39), r"2 values that cannot be used, the first: column 'width' in data row 1 is 1e\+39"),
        (masked(), "has masked values"),
        (np.ones((2, 2), complex), "dtype complex128"),
        (np.array([["a", "b"]]), "dtype <U1"),
        (np.array([[1, None]]), "dtype object"),
        (np.array([["2020-01-01", "2020-01-02"]], "datetime64[D]"), "dtype datetime64"),
        (np.ones((2, 3)), r"have shape \(3,\); the run was trained on \(2,\)"),
        (np.ones((0, 3)), r"have shape \(3,\); the run was trained on \(2,\)"),
        (np.ones(2), r"shape \(2,\); expected \(n, 2\), one row an example"),
        (np.float64(3), r"shape \(\); expected \(n, 2\)"),
        ([[1, 2], [3]], "a list is no array"),
        (pa.table({"width": [1.0]}), "the Table has no feature column 'height'"),
        (
            pa.table({"width": ["a"], "height": [1]}),
            "the Table: column 'width' is 'a' in data row 1, which",
        ),
    ],
)
def test_what_no_file_may_hold_no_array_may_hold(run, values, sentence):
    with pytest.raises(DataError, match=sentence):
        run.predict(values)


@pytest.mark.parametrize(
    "alike",
    [
        np.asfortranarray(numbers()),
        numbers().astype(np.float16),
        numbers().astype(">f8"),
        numbers()[:, ::-1][:, ::-1],
        np.lib.stride_tricks.as_strided(numbers(), writeable=False),
        np.ma.masked_array(numbers()),
        numbers().tolist(),
        pa.table({"height": numbers()[:, 1], "label": ["?"] * 3, "width": numbers()[:, 0]}),
    ],
)
def test_the_same_numbers_get_the_same_predictions_however_they_lie_in_memory(run, alike):
    np.testing.assert_array_equal(run.predict(alike).outputs, run.predict(numbers()).outputs)


@pytest.mark.parametrize("nothing", [np.zeros((0, 2)), np.array([]), []])
def test_no_examples_give_no_predictions(run, nothing):
    predictions = run.predict(nothing)
    assert predictions.outputs.shape == (0, 2)
    assert predictions.labels.shape == (0,)


def test_booleans_and_integers_are_numbers(run):
    wide = run.predict(np.array([[0.0, 1.0]])).outputs
    for dtype in (bool, np.int8, np.uint64):
        np.testing.assert_array_equal(run.predict(np.array([[0, 1]], dtype)).outputs, wide)


def test_arrays_where_a_path_is_expected_are_one_sentence(run):
    with pytest.raises(DataError, match="data is a ndarray; expected a path"):
        run.evaluate(numbers())
    with pytest.raises(DataError, match="data is a ndarray; expected a path"):
        explain_run(run.run.url, data=numbers())


def test_a_path_may_be_a_path(run):
    source = Path(run.config.recipe.data.source)
    assert run.evaluate(source).num_examples == len(run.predict(source).labels) == 40
