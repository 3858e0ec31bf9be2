"""The promise, for the estimators: the recipe of a fit gives the bytes of its command, wherever it runs."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from command_line import run_distbp
from examples import blobs, mixed, plane

from distbp import load_run, verify
from distbp.sklearn import DistbpClassifier, DistbpRegressor

pytestmark = pytest.mark.slow

PLACES = [{}, {"workers": 1}, {"workers": 3}, pytest.param({"backend": "ray", "workers": 2}, marks=pytest.mark.ray)]


def train_by_command(folder, x, y, *settings: str) -> str:
    """Return the digest of `distbp train` on the same examples, all of them."""
    np.savez(folder / "d.npz", x=x, y=y)
    told = [f"--set={setting}" for setting in ("data.source=d.npz", "data.validation=0.0", *settings)]
    done = run_distbp("train", "--json", *told, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["digest"]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_classifier_ends_with_the_bytes_of_the_command(tmp_path, place):
    x, y = blobs()
    model = DistbpClassifier(**place).fit(x, y)
    assert model.digest_ == train_by_command(tmp_path, x, y, f"epochs={model.recipe_.epochs}")


@pytest.mark.slow
def test_a_regressor_ends_with_the_bytes_of_the_command(tmp_path):
    x, y = plane()
    model = DistbpRegressor(max_iter=7).fit(x, y)
    assert model.digest_ == train_by_command(tmp_path, x, y, "epochs=7")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_table_of_mixed_columns_ends_with_the_bytes_of_the_command_on_its_file(tmp_path, library):
    frames = pytest.importorskip(library)
    table, y = mixed()
    pa.parquet.write_table(table.append_column("answer", [y]), tmp_path / "d.parquet")
    make = {"pandas": table.to_pandas, "polars": lambda: frames.from_arrow(table), "pyarrow": lambda: table}[library]
    model = DistbpClassifier(max_iter=5).fit(make(), y)
    done = run_distbp(
        "train", "--json", "--set=data.source=d.parquet", "--set=data.target=answer", "--set=data.validation=0.0",
        "--set=epochs=5", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert model.digest_ == json.loads(done.stdout)["digest"]
    assert model.score(make(), y) > 0.8


@pytest.mark.slow
def test_each_parameter_is_the_setting_it_is_called_after(tmp_path):
    x, y = blobs()
    command = train_by_command(
        tmp_path, x, y, "model.hidden=[9]", "model.activation=sigmoid", "optimizer.learning_rate=0.2", "epochs=3",
        "optimizer.momentum=0.5", "optimizer.nesterov=true", "optimizer.weight_decay=0.002", "schedule.kind=cosine",
        "global_batch_size=50", "seed=7", "dtype=float64", "data.scaling=standard",
    )  # fmt: skip
    model = DistbpClassifier(
        hidden_layer_sizes=9, activation="logistic", learning_rate_init=0.2, max_iter=3, momentum=0.5,
        nesterovs_momentum=True, alpha=0.1, learning_rate="cosine", batch_size=50, random_state=7,
        recipe={"dtype": "float64", "data": {"scaling": "standard"}},
    )  # fmt: skip
    assert model.fit(x, y).digest_ == command


@pytest.mark.parametrize("estimator", [DistbpClassifier, DistbpRegressor])
def test_numbers_of_numpy_are_those_of_python(estimator):
    x, y = blobs() if estimator is DistbpClassifier else plane()
    plain = estimator(hidden_layer_sizes=(8,), learning_rate_init=0.05, batch_size=32, random_state=3)
    theirs = estimator(
        hidden_layer_sizes=(np.int64(8),), learning_rate_init=np.float32(0.05).astype(np.float64),
        batch_size=np.int32(32), random_state=np.uint8(3),
    ).set_params(learning_rate_init=np.float64(0.05))  # fmt: skip
    assert plain.fit(x, y).digest_ == theirs.fit(x, y).digest_


def test_a_table_and_an_array_give_the_same_bytes():
    pandas = pytest.importorskip("pandas")
    x, y = blobs()
    table = pandas.DataFrame(x, columns=list("abcd"))
    assert DistbpClassifier().fit(table, y).digest_ == DistbpClassifier().fit(x, y).digest_


def test_a_run_that_is_kept_is_one_like_any_other(tmp_path):
    x, y = blobs()
    model = DistbpClassifier(placement={"storage": str(tmp_path)}).fit(x, y)
    again = DistbpClassifier(placement={"storage": str(tmp_path / "b")}, workers=1).fit(x, y)
    assert verify(model.run_, again.run_).same
    network = load_run(model.run_)
    assert network.digest == model.digest_
    assert (network.predict(x).labels == model.predict(x)).all()
    np.testing.assert_allclose(network.predict(x).outputs, model.predict_proba(x), rtol=1e-4, atol=1e-6)


@pytest.mark.ray
def test_a_fit_on_ray_gives_the_bytes_of_one_in_one_process():
    x, y = plane(num_targets=2)
    on_ray = DistbpRegressor(backend="ray", workers=2).fit(x, y)
    assert on_ray.digest_ == DistbpRegressor(workers=1).fit(x, y).digest_
    assert on_ray.loss_curve_ == DistbpRegressor(workers=1).fit(x, y).loss_curve_
