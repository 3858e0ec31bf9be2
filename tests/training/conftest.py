from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, Result, train
from distbp.backends import make_backend
from distbp.errors import TerminatedRunError
from distbp.training import Progress

NUM_RAY_CPUS = 10


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 examples of three noisy classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    centers = rng.standard_normal((3, 6))
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, x=centers[y] + rng.standard_normal((300, 6)), y=y)
    return path


@pytest.fixture
def make_recipe(toy_data: Path) -> Callable[..., Recipe]:
    """Returns a recipe of 2 epochs of 3 steps, in which nothing divides anything and everything random is on.

    The 240 training examples make batches of 100, 100 and 40, cut into 15, 15 and 6 microbatches.
    """

    def make(**fields: object) -> Recipe:
        values = {
            "data": {"source": str(toy_data)},
            "model": {"hidden": [7, 5], "dropout": 0.1},
            "optimizer": {"nesterov": True, "weight_decay": 0.01, "clip_norm": 0.5},
            "global_batch_size": 100,
            "microbatch_size": 7,
            "epochs": 2,
        }
        return Recipe.model_validate({**values, **fields})

    return make


@pytest.fixture
def make_placement(tmp_path: Path) -> Callable[..., Placement]:
    """Returns a placement with the test's own storage."""

    def make(**fields: object) -> Placement:
        return Placement.model_validate({"storage": str(tmp_path / "runs"), **fields})

    return make


@pytest.fixture
def train_toy(make_recipe, make_placement) -> Callable[..., Result]:
    """Trains `name` by the toy recipe, or by another; further fields are the placement's."""

    def call(
        name: str = "run", recipe: Recipe | None = None, observe=None, resume="auto", connect=make_backend, **fields
    ) -> Result:
        placement = make_placement(**fields)
        return train(recipe or make_recipe(), placement, name=name, resume=resume, observe=observe, connect=connect)

    return call


@pytest.fixture
def stop_at() -> Callable[[int], Callable[[Progress], None]]:
    """Returns an observer that sends this process SIGTERM once a step is done."""

    def make(step: int) -> Callable[[Progress], None]:
        def observe(progress: Progress) -> None:
            if progress.position.step == step:
                signal.raise_signal(signal.SIGTERM)

        return observe

    return make


@pytest.fixture
def train_until(train_toy, stop_at) -> Callable[..., None]:
    """Trains like `train_toy`, but is stopped by a signal after `step`."""

    def call(step: int, **fields: object) -> None:
        with pytest.raises(TerminatedRunError, match=rf"stopped after step {step} of \d+, checkpointed"):
            train_toy(observe=stop_at(step), **fields)

    return call


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A private cluster for the tests of one file; its processes can import the modules beside this one.

    Not for the whole session: a cluster that is there already is shared, and other folders' cannot import these.
    """
    from distbp.backends.ray.cluster import RayCluster  # here, so that the pure tests need not wait for ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        cluster = RayCluster("local", num_cpus=NUM_RAY_CPUS)
        yield
        cluster.close()
