from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, Result, train

NUM_EXAMPLES = 300


@pytest.fixture
def write_data(tmp_path: Path) -> Callable[..., Path]:
    """Writes three noisy classes, with some labels changed, and returns the file."""

    def write(name: str = "toy", relabelled: tuple[int, ...] = ()) -> Path:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, NUM_EXAMPLES)
        x = rng.standard_normal((3, 6))[y] + rng.standard_normal((NUM_EXAMPLES, 6))
        y[list(relabelled)] = (y[list(relabelled)] + 1) % 3
        path = tmp_path / f"{name}.npz"
        np.savez(path, x=x, y=y)
        return path

    return write


@pytest.fixture
def make_recipe(write_data) -> Callable[..., Recipe]:
    """Returns a recipe of 4 epochs of 3 steps; the 240 training examples make batches of 100, 100 and 40."""

    def make(**fields: object) -> Recipe:
        values = {
            "data": {"source": str(write_data())},
            "model": {"hidden": [7, 5], "dropout": 0.1},
            "optimizer": {"nesterov": True, "weight_decay": 0.01, "clip_norm": 0.5},
            "global_batch_size": 100,
            "microbatch_size": 7,
            "epochs": 4,
        }
        return Recipe.model_validate({**values, **fields})

    return make


@pytest.fixture
def train_run(make_recipe, tmp_path) -> Callable[..., Result]:
    """Trains a run of some name, with checkpoints of steps 3, 6, 9 and 12."""

    def call(name: str, storage: str | None = None, **fields: object) -> Result:
        placement = Placement(
            storage=storage or str(tmp_path / "runs"), checkpoint_every_steps=4, keep_checkpoints=9, workers=2
        )
        return train(make_recipe(**fields), placement, name=name)

    return call
