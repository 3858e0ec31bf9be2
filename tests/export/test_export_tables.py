"""ONNX files of tables with gaps and scaled targets; categories are refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from distbp import Placement, Recipe, load_run, train
from distbp.errors import ConfigError
from distbp.export import to_onnx

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def train_on(folder, header, rows):
    """Return a run that was trained for 2 epochs on a table."""
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    recipe = Recipe.model_validate({"data": {"source": str(path), "target": "y"}, "epochs": 2})
    return load_run(train(recipe, Placement(storage=str(folder / "runs"))).run)


def test_gaps_are_filled_and_numbers_are_in_the_users_units(tmp_path):
    a, b, y = np.random.default_rng(0).normal(size=(3, 90))
    rows = [f"{a[i]:.3f},{'' if i % 9 == 0 else round(b[i], 3)},{1000 + 100 * y[i]:.3f}" for i in range(90)]
    run = train_on(tmp_path, "a,b,y", rows)
    x = np.random.default_rng(1).normal(size=(40, 2))
    x[::5, 1] = np.nan
    session = onnxruntime.InferenceSession(to_onnx(run.network), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": x[:, :1], "b": x[:, 1:]})
    np.testing.assert_allclose(found, run.predict(x).outputs, rtol=2e-5)
    assert 500 < found.mean() < 1500


def test_a_column_of_categories_is_refused(tmp_path):
    run = train_on(tmp_path, "a,c,y", [f"{i * 7 % 13 + 0.5},{'xyz'[i % 3]},{i % 2}" for i in range(60)])
    with pytest.raises(ConfigError, match="column 'c' is a category, and only columns of numbers are written as ONNX"):
        to_onnx(run.network)
