"""Weights and scaled targets of data in blocks: the averages are the steps that training takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, explain_run, load_run, train

pytestmark = pytest.mark.slow
RATE = 0.05
SETTINGS = {
    "classes": {"target": "kind", "weight": "asked", "class_weights": "balanced"},
    "numbers": {"target": "price", "weight": "asked", "target_scaling": "standard"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of 30 rows each: two features, weights, a class and a number to predict."""
    folder, rng = tmp_path_factory.mktemp("blocks"), np.random.default_rng(2)
    (folder / "table").mkdir()
    for number in range(3):
        a, b, asked = rng.standard_normal(30), rng.standard_normal(30), rng.uniform(0.2, 4, 30)
        kind, price = np.where(a > 0.7, "rare", "often"), 9000 + 700 * b
        lines = ["a,b,asked,kind,price"]
        lines += [",".join(map(str, row)) for row in zip(a, b, asked, kind, price, strict=True)]
        (folder / "table" / f"part-{number}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_the_averaged_nudges_of_data_in_blocks_are_the_step_that_training_takes(folder, tmp_path, name):
    lines = [path.read_text().splitlines() for path in sorted((folder / "table").iterdir())]
    kept = [0, 1, 2, 3 if name == "classes" else 4]
    (tmp_path / "table").mkdir()
    for number, part in enumerate(lines):
        cells = [[line.split(",")[column] for column in kept] for line in part]
        (tmp_path / "table" / f"part-{number}.csv").write_text("\n".join(map(",".join, cells)) + "\n")
    recipe = Recipe.model_validate(
        {
            "data": {"source": str(tmp_path / "table"), "validation": 0.2, **SETTINGS[name]},
            "model": {"hidden": [4], "activation": "tanh"},
            "optimizer": {"learning_rate": RATE, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None},
            "schedule": {"kind": "constant"},
            "global_batch_size": 16,
            "microbatch_size": 5,
            "dtype": "float64",
            "epochs": 2,
        }
    )
    placement = Placement(storage=str(tmp_path), workers=1, checkpoint_every_steps=1, keep_checkpoints=99)
    run = train(recipe, placement, name="run").run
    for step in (0, 3):
        explanation = explain_run(run, 2, step=step)
        before, after = (load_run(run, number).parameters.values() for number in (step, step + 1))
        taken = np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)])
        assert (-RATE * explanation.batch.gradient).tolist() == pytest.approx(taken.tolist(), rel=1e-9, abs=1e-12)
        assert len(set(explanation.batch.weights)) > 1
        assert explanation.batch.shares.sum() == pytest.approx(1)
        if name == "numbers":
            assert 5000 < explanation.example.wanted[0] < 13_000
    held_out = explain_run(run, 0, data="validation")
    assert held_out.pulls.cost == pytest.approx(load_run(run).evaluate().loss, rel=1e-9)
