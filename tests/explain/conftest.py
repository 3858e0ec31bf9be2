from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, Result, train

INPUT_SHAPE, NUM_CLASSES, NUM_TARGETS = (3, 2), 3, 2


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with classes.npz, 120 small pictures of three classes, and targets.npz, 120 examples of two numbers."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    y = rng.integers(0, NUM_CLASSES, 120)
    x = rng.standard_normal((NUM_CLASSES, *INPUT_SHAPE))[y] + rng.standard_normal((120, *INPUT_SHAPE))
    np.savez(folder / "classes.npz", x=x, y=y)
    targets = x.reshape(120, -1) @ rng.standard_normal((6, NUM_TARGETS)) + 0.3
    np.savez(folder / "targets.npz", x=x, y=targets)
    return folder


@pytest.fixture(scope="session")
def train_small(folder: Path) -> Callable[..., Result]:
    """Trains a 6-5-4-3 (or 6-5-4-2) network for a few steps; each different one once."""
    done: dict[str, Result] = {}

    def call(data: str = "classes", validation: float = 0.2, name: str = "", **model: object) -> Result:
        recipe = Recipe.model_validate(
            {
                "data": {"source": str(folder / f"{data}.npz"), "validation": validation, "scaling": "standard"},
                "model": {"hidden": [5, 4], **model},
                "optimizer": {"learning_rate": 0.05},
                "global_batch_size": 20,
                "microbatch_size": 7,
                "epochs": 2,
            }
        )
        key = name or recipe.digest
        if key not in done:
            placement = Placement(storage=str(folder / "runs"), workers=1, checkpoint_every_steps=3, keep_checkpoints=9)
            done[key] = train(recipe, placement, name=name or f"run-{len(done)}")
        return done[key]

    return call
