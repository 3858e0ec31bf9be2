from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distbp.config import Config
from distbp.run import Checkpoint, RunDirectory


@pytest.fixture
def run(storage: str) -> RunDirectory:
    return RunDirectory.create(storage, "digits", Config(), {"numpy": "2.0"})


@pytest.fixture
def local_run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(str(tmp_path / "runs"), "digits", Config(), {"numpy": "2.0"})


@pytest.fixture
def make_checkpoint():
    def make(step: int, recipe_digest: str = "recipe", digest: str | None = None, size: int = 5) -> Checkpoint:
        weights = np.arange(size, dtype=np.float32) + step
        return Checkpoint(
            step=step,
            tensors={"parameters/0.weight": weights, "velocity/0.weight": -weights},
            digest=digest or f"digest-{step}",
            recipe_digest=recipe_digest,
            position={"epoch": step // 10, "best_loss": 0.1},
            data={"data": {"training": f"seal-{step}", "validation": None}},
            schema={"labels": ["a", "b"]},
        )

    return make


@pytest.fixture
def assert_equal_checkpoints():
    def check(actual: Checkpoint | None, expected: Checkpoint) -> None:
        assert actual is not None
        assert actual.step == expected.step
        assert actual.digest == expected.digest
        assert actual.recipe_digest == expected.recipe_digest
        assert actual.position == expected.position
        assert actual.data == expected.data
        assert actual.schema == expected.schema
        assert actual.tensors.keys() == expected.tensors.keys()
        for name, tensor in expected.tensors.items():
            assert actual.tensors[name].dtype == tensor.dtype
            assert actual.tensors[name].shape == tensor.shape
            assert actual.tensors[name].tobytes() == tensor.tobytes()

    return check
