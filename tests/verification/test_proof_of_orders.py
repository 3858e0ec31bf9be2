"""A run's proof follows the orders that the run had: rounds, and data in blocks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distbp import Placement, Recipe, train
from distbp.errors import ConfigError
from distbp.verification.attest import attest
from distbp.verification.check import check_receipt
from distbp.verification.deep import find_parting

pytestmark = pytest.mark.slow


def write_blocks(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(4):
        x = rng.standard_normal((50, 3))
        table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": (x.sum(axis=1) > 0).astype(int)})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=25)
    return str(folder)


def train_rounds(tmp_path, name="a", seed=0):
    recipe = Recipe(epochs=2, seed=seed, rounds={"steps": 3, "replicas": 2})
    return train(recipe, Placement(storage=str(tmp_path), checkpoint_every_steps=5), name=name).run


def test_an_honest_run_on_blocks_holds(tmp_path):
    recipe = Recipe(
        data={"source": write_blocks(tmp_path / "blocks"), "target": "y"},
        global_batch_size=64,
        microbatch_size=8,
        epochs=2,
    )
    run = train(recipe, Placement(storage=str(tmp_path), checkpoint_every_steps=3), name="a").run
    found = check_receipt(run, attest(run), num_steps=99)
    assert found.holds, found
    assert found.replayed


def test_an_honest_run_in_rounds_holds(tmp_path):
    run = train_rounds(tmp_path)
    found = check_receipt(run, attest(run), num_steps=99)
    assert found.holds, found
    assert found.replayed


def test_a_step_within_rounds_cannot_be_looked_into(tmp_path):
    runs = [train_rounds(tmp_path, name, seed) for name, seed in (("a", 0), ("b", 1))]
    with pytest.raises(ConfigError, match="in rounds"):
        find_parting(*runs, 2)
