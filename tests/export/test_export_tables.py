"""A table's ONNX graph takes its raw columns, with gaps and new categories, and says what `predict` says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distbp import Placement, Recipe, load_run, train

onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime")
pytest.importorskip("onnx", reason="onnx writes the graph")

from distbp.export.onnx_graph import to_onnx  # noqa: E402 - it needs what is looked for above


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    numbers = np.random.default_rng(2)
    a = numbers.normal(size=120)
    rows = {
        "a": [None if i % 9 == 0 else v for i, v in enumerate(a.tolist())],
        "time": 1.7e9 + numbers.uniform(0, 10, 120),
        "kind": [None if i % 7 == 0 else "uvw"[i % 3] for i in range(120)],
        "paid": [i % 2 == 0 for i in range(120)],
        "day": (np.datetime64("2020-01-01") + numbers.integers(0, 900, 120)).astype("datetime64[us]"),
        "price": 1e4 * a + 5e4,
        "label": np.where(a > 0, "up", "down"),
    }
    path = tmp_path_factory.mktemp("table") / "d.parquet"
    parquet.write_table(pa.table(rows), path)
    return str(path)


@pytest.mark.parametrize("target", ["price", "label"])
def test_the_graph_says_what_predict_says(table, tmp_path, target):
    other = {"price": "label", "label": "price"}[target]
    data = {"source": table, "target": target, "columns": {other: "ignore"}}
    recipe = Recipe.model_validate({"data": data, "epochs": 3})
    trained = load_run(train(recipe, Placement(storage=str(tmp_path), workers=1)).run)
    session = onnxruntime.InferenceSession(to_onnx(trained.network))
    days = np.array(["2020-02-03", "2021-07-08", "2022-01-01"], "datetime64[D]")
    rows = pa.table(
        {"a": [0.5, None, -2.0], "time": 1.7e9 + np.arange(3), "kind": ["u", "new", None], "paid": [True, False, True],
         "day": days}
    )  # fmt: skip
    parts = {
        "day.year": [2020, 2021, 2022], "day.month": [2, 7, 1], "day.day_of_year": [34, 189, 1],
        "day.weekday": [0, 3, 5],
    }  # fmt: skip
    feed = {name: np.array(values, float)[:, None] for name, values in parts.items()}
    feed |= {"a": np.array([[0.5], [np.nan], [-2.0]]), "time": 1.7e9 + np.arange(3.0)[:, None]}
    feed |= {
        "kind": np.array([["u"], ["new"], [""]], object),
        "paid": np.array([["true"], ["false"], ["true"]], object),
    }
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
    expected = trained.predict(rows)
    if target == "label":
        assert found["label"].tolist() == expected.labels.tolist()
        np.testing.assert_allclose(found["probabilities"], expected.outputs, rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_allclose(found["prediction"], expected.outputs, rtol=1e-4)
