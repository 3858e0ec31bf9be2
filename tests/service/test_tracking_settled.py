"""MLflow is told the recipe that is trained, not what the data were still to choose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow_server import start_server

from distbp import Config, Placement, Recipe, train
from distbp.run import RunDirectory
from distbp.service.tracking import MlflowTracking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("mlflow", reason="needs mlflow-skinny, from the extra distbp[mlflow]")
    with start_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def train_tracked(uri: str, folder: Path, name: str = "run", **settings):
    """Train on the table and return what MLflow has, and the recipe that the run stored."""
    from mlflow import MlflowClient

    recipe = Recipe.model_validate({"data": {"source": str(folder / "table.csv"), "target": "y"}, **settings})
    config = Config(recipe=recipe, placement=Placement(storage=str(folder / "runs")))
    with MlflowTracking(uri, config) as tracked:
        tracked.conclude(train(recipe, config.placement, name=name, observe=tracked))
    run = RunDirectory.open(str(folder / "runs" / name))
    found = json.loads((folder / "runs" / name / "mlflow.json").read_text())
    return MlflowClient(uri).get_run(found[uri]), run.read_config().recipe


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a table, of which one column has a name that MLflow does not take."""
    rows = [f"{a:.3f},{'xyz'[i % 3]},{int(a > 0)}" for i, a in enumerate(np.random.default_rng(0).normal(size=200))]
    (tmp_path / "table.csv").write_text("\n".join(["a,größe [*?],y", *rows]) + "\n")
    return tmp_path


def test_parameters_and_digest_are_those_of_the_settled_recipe(server, folder):
    found, stored = train_tracked(server, folder)
    params = found.data.params
    assert found.info.status == "FINISHED"
    assert (params["recipe.epochs"], params["recipe.optimizer.weight_decay"]) == ("100", "0.003")
    assert (params["recipe.model.loss"], params["recipe.optimizer.clip_norm"]) == ("cross_entropy", "1.0")
    assert params["recipe.data.columns"] == str(stored.data.columns)
    assert found.data.tags["distbp.recipe"] == stored.digest


def test_a_run_that_goes_on_for_more_epochs_says_so_in_a_tag(server, folder):
    settings = {"schedule": {"kind": "constant"}}
    first, _ = train_tracked(server, folder, epochs=2, **settings)
    second, stored = train_tracked(server, folder, epochs=3, **settings)
    assert (first.info.run_id, second.info.status) == (second.info.run_id, "FINISHED")
    assert (second.data.params["recipe.epochs"], second.data.tags["recipe.epochs"]) == ("2", "3")
    assert second.data.tags["distbp.recipe"] == stored.digest != first.data.tags["distbp.recipe"]
