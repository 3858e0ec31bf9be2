"""A user's own gradient function, named in the recipe, trains like the built-in network."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import own_model
import pytest
from command_line import run_distbp

from distbp import load_run
from distbp.config import Model as ModelConfig
from distbp.nn.build import ModelSpec

OWN = {"function": "own_model:build", "options": {"spread": 0.1}}


def test_its_gradient_is_that_of_a_network_without_hidden_layers():
    own = own_model.build(6, 3)
    network = ModelSpec(ModelConfig(hidden=()), 6, 3, True, "float64").build()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((11, 6)), rng.integers(0, 3, 11)
    W, b = rng.standard_normal((6, 3)), rng.standard_normal(3)
    theirs, ours = {"W": np.empty((6, 3)), "b": np.empty(3)}, {"0.weight": np.empty((3, 6)), "0.bias": np.empty(3)}
    own_sums = own.gradient_sums({"W": W, "b": b}, x, y, theirs, rng)
    sums = network.gradient_sums({"0.weight": W.T.copy(), "0.bias": b}, x, y, ours, rng)
    assert own_sums.loss == pytest.approx(sums.loss, rel=1e-14)
    assert np.allclose(theirs["W"].T, ours["0.weight"], rtol=0, atol=1e-13)
    assert np.allclose(theirs["b"], ours["0.bias"], rtol=0, atol=1e-13)


def test_its_digest_does_not_depend_on_workers_and_threads(make_recipe, train_toy):
    recipe = make_recipe(model=OWN)
    results = [
        train_toy("one", recipe=recipe, workers=1),
        train_toy("three", recipe=recipe, workers=3),
        train_toy("threads", recipe=recipe, workers=2, threads_per_worker=2),
    ]
    assert len({result.digest for result in results}) == 1


def test_its_run_is_evaluated_like_any_other(make_recipe, train_toy):
    result = train_toy(recipe=make_recipe(model=OWN))
    run = load_run(result.run)
    assert sorted(run.parameters) == ["W", "b"]
    assert run.evaluate().loss == result.validation_loss


@pytest.mark.slow
def test_a_command_finds_the_model_beside_its_configuration_in_the_current_folder_and_there_alone(tmp_path):
    (tmp_path / "mine.py").write_text((Path(__file__).parent / "own_model.py").read_text())
    model = "model: {function: 'mine:build'}\nepochs: 1\nglobal_batch_size: 64\n"
    (tmp_path / "config.yaml").write_text("recipe:\n" + textwrap.indent(model, "  "))
    (tmp_path / "elsewhere").mkdir()
    done = run_distbp("train", "config.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = run_distbp("train", "../config.yaml", cwd=tmp_path / "elsewhere")
    assert refused.returncode == 2
    assert "run distbp in the folder '..'" in refused.stderr
