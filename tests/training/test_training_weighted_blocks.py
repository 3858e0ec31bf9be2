"""Weights of data in blocks: the same bytes for any number of workers, also where a lane has ended before its step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distbp import Placement, Recipe, train
from distbp.backends.local import LocalBackend
from distbp.config import Config
from distbp.data import prepare
from distbp.nn.digests import digest
from distbp.training.plan import make_plan

SIZES = (310, 223, 174)  # 707 rows: the last batch of 64 has 3, so most of its 8 lanes are empty


@pytest.fixture
def write(tmp_path):
    """Returns a folder of blocks whose rows all weigh the same."""

    def call(weight: float) -> str:
        folder = tmp_path / f"weight-{weight:g}"
        folder.mkdir()
        rng = np.random.default_rng(1)
        for number, size in enumerate(SIZES):
            x = rng.normal(size=(3, size))
            columns = {f"f{place}": values for place, values in enumerate(x)}
            columns |= {"y": np.where(x[0] + x[1] > 0, "up", "down"), "w": np.full(size, weight)}
            parquet.write_table(pa.table(columns), Path(folder) / f"{number}.parquet", row_group_size=60)
        return str(folder)

    return call


def end_with(workers: int, **data: object) -> str:
    fields = {"data": {"target": "y", "validation": 0.0, **data}, "model": {"hidden": [5]}, "epochs": 2}
    config = Config(recipe=Recipe.model_validate(fields), placement=Placement())
    plan = make_plan(config, prepare(config.recipe.data, config.recipe.seed))
    backend = LocalBackend(workers, num_threads=workers)
    try:
        backend.start(plan.worker, plan.server, plan.initial_state())
        for step in range(plan.num_steps):
            list(backend.run(iter([plan.order(step)])))
        return digest(backend.snapshot().state.parameters)
    finally:
        backend.close()


@pytest.mark.parametrize("data", [{"weight": "w"}, {"class_weights": {"up": 1, "down": 3}}])
def test_the_bytes_do_not_depend_on_the_workers_of_lanes_that_have_ended(write, data):
    source = write(2.0)
    assert len({end_with(workers, source=source, **data) for workers in (1, 2, 3, 4, 5, 8)}) == 1


def test_a_weight_that_all_have_changes_nothing(write, tmp_path):
    digests = {
        train(
            Recipe.model_validate(
                {"data": {"source": write(weight), "target": "y", "weight": "w", "validation": 0.0}, "epochs": 2}
            ),
            Placement(storage=str(tmp_path / f"runs-{weight:g}")),
        ).digest
        for weight in (1.0, 2.0)
    }
    assert len(digests) == 1
