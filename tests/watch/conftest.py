from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import pytest

from distbp import Placement, Recipe, Result, train
from distbp.config import Config
from distbp.run import RunDirectory
from distbp.run.records import encode_event

RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 3})


@pytest.fixture
def run(storage: str) -> RunDirectory:
    """A run that nobody has trained yet."""
    return RunDirectory.create(storage, "digits", Config(), {"numpy": "2.0"})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of 69 steps on the digits."""
    return train(RECIPE, Placement(storage=str(tmp_path_factory.mktemp("watch"))), name="finished")


@pytest.fixture
def make_line() -> Callable[..., bytes]:
    """Makes a line of steps.jsonl; a step takes 0.01 s."""

    def make(step: int, loss: object = 0.5, **others: object) -> bytes:
        values = {"step": step, "epoch": (step - 1) // 10, "loss": loss, "num_examples": 64, "compute_s": 0.007}
        values |= {"wait_s": 0.002, "commit_s": 0.001, "checksum": secrets.token_hex(8), **others}
        return json.dumps(values).encode() + b"\n"

    return make


@pytest.fixture
def make_event() -> Callable[..., bytes]:
    return encode_event
