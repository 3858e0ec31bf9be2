"""`distbp export`: the files it writes, and what it says where it cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from distbp import Placement, Recipe, load_config, load_run, train
from distbp.cli.app import run as run_command

pytestmark = pytest.mark.slow

TINY = {"epochs": 1, "model": {"hidden": (4,)}}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    storage = tmp_path_factory.mktemp("export") / "runs"
    return train(Recipe.model_validate(TINY), Placement(storage=str(storage)), name="a").run


def test_safetensors_hold_the_parameters_and_how_inputs_are_scaled(run, tmp_path):
    out = tmp_path / "a.safetensors"
    assert run_command(["export", run, "--to", "safetensors", "--out", str(out)]) == 0
    trained = load_run(run)
    tensors = safetensors.numpy.load_file(out)
    assert {"0.weight", "1.bias", "scaling.shift", "scaling.scale"} <= set(tensors)
    x = np.random.default_rng(0).uniform(0, 16, (5, 64))
    a = np.maximum(
        (x - tensors["scaling.shift"]) * tensors["scaling.scale"] @ tensors["0.weight"].T + tensors["0.bias"], 0
    )
    z = a @ tensors["1.weight"].T + tensors["1.bias"]
    probabilities = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, trained.predict(x).outputs, rtol=1e-4)
    with safetensors.safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert metadata["digest"] == trained.digest
    assert json.loads(metadata["schema"])["classes"] == list(range(10))


def test_the_configuration_trains_the_same_bytes(run, tmp_path):
    out = tmp_path / "a.yaml"
    assert run_command(["export", run, "--to", "config", "--out", str(out)]) == 0
    recipe = load_config(out).recipe
    assert train(recipe, Placement(storage=str(tmp_path / "runs"))).digest == load_run(run).digest


def test_json_says_what_was_written(run, tmp_path, capsys):
    pytest.importorskip("onnx")
    out = tmp_path / "a.onnx"
    assert run_command(["export", run, "--to", "onnx", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["num_bytes"] == out.stat().st_size
    assert document["digest"] == load_run(run).digest


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--to", "onx", "--out", "f"), 2, "--to onx is no known format; did you mean onnx?"),
        (("--to", "pickle", "--out", "f"), 2, "use onnx, safetensors, config"),
        (("--to", "config", "--out", "there/is/none"), 4, "cannot write 'there/is/none': No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(run, tmp_path, monkeypatch, capsys, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    assert run_command(["export", run, *words]) == code
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
