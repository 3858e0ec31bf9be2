from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, Result, train
from distbp.backends import make_backend

HAS_TORCH = importlib.util.find_spec("torch") is not None
NEEDS_NO_TORCH = ("test_jax_example.py",)
NUM_RAY_CPUS = 6
CNN = {"torch": "own_modules:Cnn"}
TRANSFORMER = {"torch": "own_modules:Transformer", "loss_per": "token"}
RECURRENT = {"torch": "own_modules:Recurrent"}
REGRESSION = {"torch": "own_modules:Regression", "loss": "squared_error"}
TOKENS = {"scaling": "none", "task": "classification"}
ADAMW = {"kind": "adamw", "learning_rate": 0.01, "weight_decay": 0.05, "decay_groups": {"*norm*": 0.0}}


class SkippedModule(pytest.Module):
    """A file of tests that is not even imported."""

    def collect(self):
        pytest.skip("PyTorch is not installed: pip install 'distbp[torch]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip the tests beside this file, with the reason, where there is no PyTorch."""
    if HAS_TORCH or module_path.parent != Path(__file__).parent or module_path.name in NEEDS_NO_TORCH:
        return None
    return SkippedModule.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small data for each kind of module, by name: images, tokens, series and points."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data")
    tokens = rng.integers(0, 11, (60, 7))
    following = np.roll(tokens, -1, axis=1)
    following[:, -1] = -100
    x = rng.standard_normal((60, 5))
    data = {
        "images": {"x": rng.standard_normal((60, 6, 6)), "y": rng.integers(0, 3, 60)},
        "tokens": {"x": tokens, "y": following},
        "series": {"x": rng.standard_normal((60, 6, 4)), "y": rng.integers(0, 3, 60)},
        "points": {"x": x, "y": np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2], x.sum(1)], axis=1)},
    }
    for name, arrays in data.items():
        np.savez(folder / f"{name}.npz", **arrays)
    return {name: str(folder / f"{name}.npz") for name in data}


@pytest.fixture
def recipes(sources: dict[str, str]) -> dict[str, Recipe]:
    """A recipe for each kind of module: 2 epochs of 3 steps, 4 microbatches and a short one, nothing divides anything.

    The 48 training examples make batches of 18, 18 and 12.
    """
    common = {"global_batch_size": 18, "microbatch_size": 4, "epochs": 2}
    return {
        name: Recipe.model_validate({**common, "data": {"source": sources[source], **data}, **fields})
        for name, source, data, fields in [
            ("cnn", "images", {}, {"model": CNN, "optimizer": {"weight_decay": 0.01, "nesterov": True}}),
            ("transformer", "tokens", TOKENS, {"model": TRANSFORMER, "optimizer": ADAMW}),
            ("recurrent", "series", {}, {"model": RECURRENT, "optimizer": {**ADAMW, "clip_norm": 0.5}}),
            ("regression", "points", {}, {"model": REGRESSION, "optimizer": {"learning_rate": 0.01}}),
        ]
    }


@pytest.fixture(params=["cnn", "transformer", "recurrent", "regression"])
def recipe(request: pytest.FixtureRequest, recipes: dict[str, Recipe]) -> Recipe:
    """The recipe of each kind of module in turn."""
    return recipes[request.param]


@pytest.fixture
def train_module(tmp_path: Path) -> Callable[..., Result]:
    """Trains a recipe as run `name`; further fields are the placement's."""

    def call(recipe, name="run", observe=None, resume="auto", connect=make_backend, model=None, **fields) -> Result:
        placement = Placement.model_validate({"storage": str(tmp_path / "runs"), "workers": 1, **fields})
        return train(recipe, placement, name=name, resume=resume, observe=observe, connect=connect, model=model)

    return call


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A private cluster for the tests of one file; its processes can import the modules beside this one.

    Not for the whole session: a cluster that is there already is shared, and other folders' cannot import these.
    """
    from distbp.backends.ray.cluster import RayCluster  # here, so that the pure tests need not wait for ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        cluster = RayCluster("local", num_cpus=NUM_RAY_CPUS)
        yield
        cluster.close()
