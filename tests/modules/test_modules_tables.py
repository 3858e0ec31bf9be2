"""PyTorch modules on tables: weights, scaled targets and several labels mean what they mean elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from torch import nn

from distbp import Placement, Recipe, Result, load_run, train

pytestmark = pytest.mark.slow


def build(num_inputs: int, num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(num_inputs, 8), nn.Tanh(), nn.Linear(8, num_outputs))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    numbers = np.random.default_rng(2)
    a, b = numbers.normal(size=(2, 96))
    rows = {
        "a": a, "b": b, "w": numbers.integers(0, 4, 96).astype(float), "price": 1e4 * (2 * a - b) + 5e4,
        "up": np.where(a > 0, "yes", "no"), "down": b < 0,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "d.parquet"
    parquet.write_table(pa.table(rows), path)
    return str(path)


def run(table: str, folder: Path, name: str, workers: int = 1, **data: object) -> Result:
    used = [data["target"], data.get("weight")] if isinstance(data["target"], str) else data["target"]
    ignored = {column: "ignore" for column in ("up", "down", "price", "w") if column not in used}
    recipe = Recipe.model_validate({"data": {"source": table, "columns": ignored, **data}, "epochs": 30})
    return train(recipe, Placement(storage=str(folder), workers=workers), name=name, model=build)


def test_numbers_are_predicted_in_their_units_with_weights_by_any_number_of_workers(table, tmp_path):
    one = run(table, tmp_path, "one", target="price", weight="w")
    assert run(table, tmp_path, "three", workers=3, target="price", weight="w").digest == one.digest
    assert run(table, tmp_path, "plain", target="price").digest != one.digest
    trained = load_run(one.run, model=build)
    report, validation = trained.evaluate(), trained.own_data().validation
    off = trained.predict_examples(validation).outputs - validation.y[validation.rows]
    weights = validation.take_weights(slice(None))
    assert report.loss == pytest.approx(np.average((off**2).sum(axis=1), weights=weights), rel=1e-4)
    assert report.loss == pytest.approx(one.validation_loss)
    assert report.measures.r2 > 0.9


def test_several_labels_are_probabilities(table, tmp_path):
    result = run(table, tmp_path, "labels", target=["up", "down"])
    trained = load_run(result.run, model=build)
    assert trained.evaluate().measures.roc_auc > 0.85
    outputs = trained.predict(pa.table({"a": [5.0], "b": [-5.0]})).outputs
    assert (outputs > 0.5).all()
    assert (outputs < 1).all()
