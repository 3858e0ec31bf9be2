"""Data in blocks on S3: a real server in its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import s3fs
from pyarrow import parquet

from distbp.data.blocks.examples import BlockSource, TrainingBlocks, make_order
from distbp.data.blocks.fetch import DiskCache, Fetcher
from distbp.data.blocks.look import Question, look_at
from distbp.data.blocks.pack import pack
from distbp.errors import DataError

pytestmark = pytest.mark.slow

NUM_FILES, NUM_ROWS = 2, 3_000


@pytest.fixture
def source(tmp_path: Path, s3_storage: str) -> tuple[Path, str]:
    """The same data in a folder and in a bucket."""
    folder, url = tmp_path / "local", s3_storage.removesuffix("/runs") + "/data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        columns = {name: rng.normal(size=NUM_ROWS) for name in "abcdefghijklmnop"}
        table = pa.table({**columns, "y": rng.integers(0, 3, NUM_ROWS)})
        parquet.write_table(table, folder / f"{number}.parquet", row_group_size=200)
        s3fs.S3FileSystem().put_file(str(folder / f"{number}.parquet"), f"{url}/{number}.parquet")
    return folder, url


def open_training(url: object, fetcher: Fetcher) -> TrainingBlocks:
    question = Question(str(url), held_out=0.2, seed=1)
    source = BlockSource(look_at(question), question, "standard")
    return TrainingBlocks(source, make_order(source, 128, 32, 2, 0), np.float32, fetcher, 1 << 28)


def take_epoch(training: TrainingBlocks, lanes: range = range(4)) -> list[np.ndarray]:
    num_steps = training.order.lanes.num_steps
    training.expect(lanes, 0, num_steps)
    try:
        return [training.take(step, lane)[0] for step in range(num_steps) for lane in lanes]
    finally:
        training.close()


def test_blocks_on_s3_give_the_bits_of_blocks_on_disk_from_a_cold_and_a_warm_cache(source, tmp_path):
    folder, url = source
    expected = take_epoch(open_training(folder, Fetcher()))
    cache = DiskCache(tmp_path / "cache", 1 << 28)
    cold, warm = Fetcher(cache), Fetcher(cache)
    for fetcher in (cold, warm):
        found = take_epoch(open_training(url, fetcher))
        assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))
    assert cold.counts.bytes_read > 0 == warm.counts.bytes_read


def test_four_nodes_read_about_the_data_once_an_epoch(source):
    _, url = source
    size = sum(file.size for file in look_at(Question(url)).contents.listing.files)
    fetchers = [Fetcher() for _ in range(4)]
    for lane, fetcher in enumerate(fetchers):
        take_epoch(open_training(url, fetcher), range(lane, lane + 1))
    footers = 4 * NUM_FILES * 65_536
    assert sum(fetcher.counts.bytes_read for fetcher in fetchers) - footers < 1.15 * size


def test_an_object_that_is_replaced_after_the_look_is_noticed_by_name(source):
    folder, url = source
    training = open_training(url, Fetcher())
    s3fs.S3FileSystem().put_file(str(folder / "0.parquet"), f"{url}/1.parquet")
    with pytest.raises(DataError, match=r"/1\.parquet' has changed since the first look"):
        take_epoch(training)


def test_a_bucket_can_be_packed_to_and_a_missing_one_is_named(source):
    folder, url = source
    pack(look_at(Question(str(folder))), f"{url}-packed")
    assert look_at(Question(f"{url}-packed")).num_rows == NUM_FILES * NUM_ROWS
    with pytest.raises(DataError, match="cannot read 's3://nobody-has-this/x': it does not exist"):
        look_at(Question("s3://nobody-has-this/x"))
