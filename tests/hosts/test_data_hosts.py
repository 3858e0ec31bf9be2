"""Data in a bucket, trained on by four nodes: each reads its own part, and the bytes are those of one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from data_hosts import BUCKET, Bucket, train_and_count
from hosts import Host, make_hosts
from pyarrow import parquet
from ray_hosts import RayOnHosts

from distbp import Placement, Recipe, train

pytestmark = pytest.mark.ray

NUM_NODES, NUM_FILES, BLOCKS_PER_FILE, ROWS_PER_BLOCK, NUM_FEATURES = 4, 8, 16, 250, 64
EPOCHS = 3
PATIENCE = {"RAY_raylet_start_wait_time_s": "120"}  # four nodes start at the same time


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 MB of Parquet in 128 blocks."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        count = BLOCKS_PER_FILE * ROWS_PER_BLOCK
        columns = {f"f{n}": rng.standard_normal(count).astype(np.float32) for n in range(NUM_FEATURES)}
        table = pa.table({**columns, "y": rng.integers(0, 2, count)})
        parquet.write_table(table, folder / f"{number}.parquet", row_group_size=ROWS_PER_BLOCK, use_dictionary=False)
    return folder


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    if find_spec("s3fs") is None or find_spec("moto") is None:
        pytest.skip("needs s3fs and moto[server]")
    with make_hosts(NUM_NODES + 1) as hosts:
        yield hosts


def make_recipe(source: object, epochs: int) -> dict:
    return {
        "data": {"source": str(source), "validation": 0.0, "window_blocks": 2},
        "model": {"hidden": [8]},
        "global_batch_size": 256,
        "microbatch_size": 32,
        "epochs": epochs,
    }


def test_four_nodes_read_a_quarter_of_a_bucket_each_and_give_the_bytes_of_one_process(folder, hosts, tmp_path):
    *nodes, server = hosts
    with closing(Bucket(server, folder)) as bucket:
        variables = {**bucket.variables, **PATIENCE, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        train_from(RayOnHosts(nodes, variables=variables), nodes, folder, tmp_path)


def train_from(cluster: RayOnHosts, nodes: list[Host], folder: Path, tmp_path: Path) -> None:
    placement = {"storage": str(tmp_path / "runs"), "memory_for_data": "2MB"}
    size = sum(path.stat().st_size for path in folder.iterdir())

    _, short, long = (  # in the first run the nodes take the first look, which is kept
        train_and_count(cluster, nodes, tmp_path / "config.yaml", make_recipe(BUCKET, epochs), placement)
        for epochs in (1, 1, 1 + EPOCHS)
    )
    shares = [(b - a) / (EPOCHS * size) for a, b in zip(short.received[1:], long.received[1:], strict=True)]
    print(f"bytes that reach a node in an epoch, as a share of {size:,}: {', '.join(f'{s:.3f}' for s in shares)}")
    assert max(shares) <= 1.15 / NUM_NODES
    assert min(shares) > 0.2

    local = train(Recipe.model_validate(make_recipe(folder, 1)), Placement(workers=1, storage=str(tmp_path / "local")))
    assert short.result["digest"] == local.digest
