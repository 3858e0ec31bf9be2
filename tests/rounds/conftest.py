from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rounds_by_hand import ROUNDS, Trained, orders

from distbp import Placement, Recipe, Result, train
from distbp.backends import make_backend
from distbp.backends.local import LocalBackend
from distbp.config import Config
from distbp.data import prepare
from distbp.training.plan import make_plan

NUM_EXAMPLES, NUM_INPUTS, NUM_CLASSES = 230, 6, 3


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """230 training and 70 validation examples of three noisy classes, sorted by class, as files often are."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, NUM_CLASSES, NUM_EXAMPLES))
    centers = rng.standard_normal((NUM_CLASSES, NUM_INPUTS))
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "toy.npz", x=centers[y] + rng.standard_normal((NUM_EXAMPLES, NUM_INPUTS)), y=y)
    y = rng.integers(0, NUM_CLASSES, 70)
    np.savez(folder / "held-out.npz", x=centers[y] + rng.standard_normal((70, NUM_INPUTS)), y=y)
    return folder


@pytest.fixture
def make_recipe(toy_data: Path) -> Callable[..., Recipe]:
    """Returns a recipe of 3 epochs of 5 steps in rounds of 2, in which nothing divides anything.

    Batches of 50 examples are cut into 8 microbatches, the last of 1, the last batch of 30 into 5.
    """

    def make(**fields: object) -> Recipe:
        values = {
            "data": {"source": str(toy_data / "toy.npz"), "validation": str(toy_data / "held-out.npz")},
            "model": {"hidden": [7, 5]},
            "optimizer": {"learning_rate": 0.05},
            "rounds": ROUNDS,
            "global_batch_size": 50,
            "microbatch_size": 7,
            "epochs": 3,
        }
        return Recipe.model_validate({**values, **fields})

    return make


@pytest.fixture
def make_run() -> Callable[..., Trained]:
    """Trains a recipe with workers that are threads of their own, however small the network is."""

    def call(recipe: Recipe, num_workers: int = 1, threads_per_worker: int = 1) -> Trained:
        placement = Placement(threads_per_worker=threads_per_worker)
        plan = make_plan(Config(recipe=recipe, placement=placement), prepare(recipe.data, recipe.seed))
        backend = LocalBackend(num_workers, num_threads=num_workers)
        try:
            backend.start(plan.worker, plan.server, plan.initial_state())
            reports = list(backend.run(orders(plan)))
            return Trained(backend.snapshot().state, reports)
        finally:
            backend.close()

    return call


@pytest.fixture
def train_toy(make_recipe, tmp_path) -> Callable[..., Result]:
    """Trains `name` by the toy recipe, or by another; further fields are the placement's."""

    def call(name: str = "run", recipe: Recipe | None = None, observe=None, connect=make_backend, **fields) -> Result:
        placement = Placement.model_validate({"storage": str(tmp_path / "runs"), **fields})
        return train(recipe or make_recipe(), placement, name=name, observe=observe, connect=connect)

    return call
