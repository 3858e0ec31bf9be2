from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, Result, explain_run, train
from distbp.explain.page import choose_page_writer
from distbp.run import CheckpointStore, RunDirectory

INPUT_SHAPE, NUM_CLASSES, NUM_TARGETS = (3, 2), 3, 2


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with classes.npz, 120 small pictures of three classes; colors.npz, 120 coloured ones of 24 classes;
    and targets.npz, 120 examples of two numbers."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    y = rng.integers(0, NUM_CLASSES, 120)
    x = rng.standard_normal((NUM_CLASSES, *INPUT_SHAPE))[y] + rng.standard_normal((120, *INPUT_SHAPE))
    np.savez(folder / "classes.npz", x=x, y=y)
    targets = x.reshape(120, -1) @ rng.standard_normal((6, NUM_TARGETS)) + 0.3
    np.savez(folder / "targets.npz", x=x, y=targets)
    np.savez(folder / "colors.npz", x=rng.integers(0, 256, (120, 4, 5, 3)).astype(np.uint8), y=np.arange(120) % 24)
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
        key = name or recipe.model_dump_json()
        if key not in done:
            placement = Placement(storage=str(folder / "runs"), workers=1, checkpoint_every_steps=3, keep_checkpoints=9)
            done[key] = train(recipe, placement, name=name or f"run-{len(done)}")
        return done[key]

    return call


@pytest.fixture
def middle_step() -> Callable[[str], int]:
    """Returns a function that tells the step of a checkpoint from the middle of a run."""

    def find(run: str) -> int:
        steps = CheckpointStore(RunDirectory.open(run), keep=1).list_steps()
        assert len(steps) > 2
        return steps[len(steps) // 2]

    return find


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a 784-128-64-10 network, trained for a few steps on noise around ten pictures of 28 x 28."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 600)
    x = rng.integers(0, 128, (10, 28, 28))[y] + rng.integers(0, 128, (600, 28, 28))
    np.savez(folder / "large.npz", x=x.astype(np.uint8), y=y)
    recipe = Recipe.model_validate(
        {"data": {"source": str(folder / "large.npz")}, "model": {"hidden": [128, 64]}, "epochs": 1}
    )
    run = train(recipe, Placement(storage=str(folder)), name="large").run
    page = folder / "large.html"
    choose_page_writer(str(page))(explain_run(run))
    return page
