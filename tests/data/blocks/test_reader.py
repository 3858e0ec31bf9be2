import threading
import weakref
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from waiting import wait_until

from distbp.data.blocks import fetch
from distbp.data.blocks.examples import BlockSource, HeldOutBlocks, TrainingBlocks, make_order
from distbp.data.blocks.fetch import DiskCache, Fetcher
from distbp.data.blocks.files import DataFile
from distbp.data.blocks.look import Question, find_held_out, look_at
from distbp.data.blocks.reader import BlockNeed, BlockReader, DecodedBlock
from distbp.errors import DataError

pytestmark = pytest.mark.slow

NUM_FEATURES, GROUP = 3, 40
ALL = 1 << 30


def write_source(folder: Path, num_files: int = 3, num_rows: int = 130) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(num_files):
        columns = {f"f{n}": rng.normal(3 * n, 1 + n, num_rows).astype(np.float32) for n in range(NUM_FEATURES)}
        columns["y"] = rng.integers(0, 4, num_rows)
        parquet.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=GROUP)
    return folder


def open_source(source: object, held_out: float = 0.25, scaling: str = "standard", **options) -> BlockSource:
    question = Question(str(source), held_out=held_out, seed=5)
    return BlockSource(look_at(question, **options), question, scaling)


def open_training(source: BlockSource, memory: int = ALL, fetcher: Fetcher | None = None) -> TrainingBlocks:
    return TrainingBlocks(source, make_order(source, 32, 10, 2, seed=1), np.float32, fetcher or Fetcher(), memory)


def take_epoch(training: TrainingBlocks, lanes: range = range(4), step: int = 0, epochs: int = 1) -> list:
    num_steps = epochs * training.order.lanes.num_steps
    training.expect(lanes, step, num_steps)
    return [training.take(s, lane) for s in range(step, num_steps) for lane in lanes]


def are_equal(one: list, two: list) -> bool:
    pairs = zip(one, two, strict=True)
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype for left, right in pairs for a, b in zip(left, right, strict=True)
    )


@pytest.fixture
def source(tmp_path):
    return open_source(write_source(tmp_path / "d"))


def test_a_microbatch_is_the_bits_of_its_rows_read_directly(source):
    training = open_training(source)
    scaling = source.scaling.cast(np.float32, np.dtype(np.float32))
    content = {}
    for number, facts in enumerate(source.look.blocks):
        path = source.look.contents.file(facts.block).url
        table = parquet.ParquetFile(path).read_row_group(facts.block.group)
        content[number] = np.column_stack(table.columns)
    taken = []
    for step in range(training.order.lanes.num_steps):
        for lane in range(4):
            chosen = training.order.select(step, lane)
            rows = [
                content[block][~find_held_out(block, len(content[block]), 0.25, seed=5)][row]
                for block, row in zip(chosen.blocks, chosen.rows, strict=True)
            ]
            x, y = training.take(step, lane)
            raw = np.array(rows).reshape(-1, 4)
            assert np.array_equal(x, scaling.apply(raw[:, :3].astype(np.float32), np.float32))
            assert np.array_equal(y, raw[:, 3].astype(np.int64))
            assert (x.dtype, y.dtype) == (np.float32, np.int64)
            taken += raw.tolist()
    assert len(taken) == len(training) == len({tuple(row) for row in taken})
    training.close()


@pytest.mark.parametrize("memory", [0, 2 * GROUP * 20, 5 * GROUP * 20, ALL])
def test_what_is_taken_does_not_depend_on_the_memory(source, memory):
    expected = [open_training(source).take(step, lane) for step in range(26) for lane in range(4)]
    training = open_training(source, memory)
    assert training.order.lanes.num_steps * 2 <= 26
    found = take_epoch(training, epochs=2)
    training.close()
    assert are_equal(found, expected[: len(found)])


def test_what_is_taken_does_not_depend_on_shards_that_move_or_on_where_a_run_resumes(source):
    training = open_training(source)
    expected = take_epoch(training)
    for step in range(training.order.lanes.num_steps):
        other = open_training(source, 4 * GROUP * 20)
        other.expect(range(2, 4), 0, 100)
        assert are_equal(take_epoch(other, step=step), expected[4 * step :])
        other.close()
    training.close()


def test_threads_may_share_the_blocks(source):
    training = open_training(source, 3 * GROUP * 20)
    expected = take_epoch(training)
    training.expect(range(4), 0, training.order.lanes.num_steps)
    found: dict[int, list] = {}

    def take(lane: int) -> None:
        found[lane] = [training.take(step, lane) for step in range(training.order.lanes.num_steps)]

    threads = [threading.Thread(target=take, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    training.close()
    assert are_equal([found[lane][step] for step in range(len(found[0])) for lane in range(4)], expected)


def test_held_out_and_training_examples_are_all_examples_once(source):
    training = open_training(source)
    held_out = HeldOutBlocks(source, np.float32, Fetcher(), ALL)
    held_out.expect(0, len(held_out))
    parts = [held_out.take(start, start + 16) for start in range(0, len(held_out), 16)]
    rows = np.concatenate([x for x, _ in parts + take_epoch(training)])
    assert len(np.unique(rows, axis=0)) == len(rows) == source.look.num_rows == len(training) + len(held_out)
    held_out.close()
    training.close()


def test_targets_of_a_regression_are_taken_in_the_asked_dtype(tmp_path):
    rng = np.random.default_rng(1)
    parquet.write_table(pa.table({n: rng.normal(size=90) for n in ("a", "b", "p")}), tmp_path / "r.parquet")
    question = Question(str(tmp_path / "r.parquet"), target="p")
    source = BlockSource(look_at(question), question, "none")
    training = TrainingBlocks(source, make_order(source, 10, 10, 1, 0), np.float32, Fetcher(), ALL)
    x, y = training.take(0, 0)
    assert (x.shape, y.shape, y.dtype) == ((10, 2), (10, 1), np.float32)
    training.close()


def test_a_lane_reads_only_its_own_blocks(tmp_path):
    source = open_source(write_source(tmp_path / "d", 4, 400), held_out=0.0)
    fetchers = [Fetcher() for _ in range(4)]
    for lane, fetcher in enumerate(fetchers):
        training = open_training(source, ALL, fetcher)
        take_epoch(training, range(lane, lane + 1))
        training.close()
    whole = sum(facts.block.stop - facts.block.start for facts in source.look.blocks)
    footers = 4 * sum(file.size for file in source.look.contents.listing.files)  # small files are read as tails
    read = sum(fetcher.counts.bytes_read for fetcher in fetchers)
    assert read <= footers + whole * (1 + 4 / len(source.look.blocks)) * 1.05


class Blocks:
    """Blocks of 100 bytes that are there when the test says so."""

    def __init__(self):
        self.begun: list[int] = []
        self.reads: list[int] = []
        self.given: list[weakref.ref] = []
        self.allowed = threading.Event()
        self.allowed.set()

    def decode(self, block: int) -> DecodedBlock:
        self.begun.append(block)
        assert self.allowed.wait(30)
        self.reads.append(block)
        decoded = DecodedBlock(np.full((10, 1), block, np.uint8), np.zeros(90, np.uint8))
        self.given.append(weakref.ref(decoded))
        return decoded

    def count_held(self) -> int:
        """How many blocks somebody still has: the reader, where the test keeps none."""
        return sum(reference() is not None for reference in list(self.given))

    def open(self, memory: int) -> BlockReader:
        return BlockReader(self.decode, lambda _: 100, memory)


def test_a_thread_reads_ahead_as_far_as_memory_allows_and_no_further():
    blocks, threads = Blocks(), set(threading.enumerate())
    reader = blocks.open(300)
    reader.expect([BlockNeed(block, block, block + 1) for block in range(10)], 0)
    wait_until(lambda: len(blocks.reads) == 3)
    for step in range(10):
        assert reader.get(step, step).x[0, 0] == step
        assert blocks.count_held() <= 4  # those that fit, and the one that the thread has just read
    reader.close()
    assert sorted(blocks.reads) == list(range(10))
    assert blocks.count_held() == 0
    assert set(threading.enumerate()) <= threads


def test_a_block_that_two_windows_need_is_read_once():
    blocks = Blocks()
    reader = blocks.open(500)
    reader.expect([BlockNeed(7, 0, 5), BlockNeed(8, 0, 5), BlockNeed(8, 4, 9), BlockNeed(9, 5, 9)], 0)
    for step in range(9):
        reader.get(8, step)
        reader.get(7 if step < 5 else 9, step)
    reader.close()
    assert sorted(blocks.reads) == [7, 8, 9]


def test_time_spent_waiting_for_data_is_counted():
    blocks = Blocks()
    blocks.allowed.clear()
    reader = blocks.open(500)
    reader.expect([BlockNeed(1, 0, 5)], 0)
    wait_until(lambda: blocks.begun)
    threading.Timer(0.2, blocks.allowed.set).start()
    reader.get(1, 0)
    waited = reader.waited_s
    reader.get(1, 1)
    reader.close()
    assert waited > 0
    assert reader.waited_s == waited


def test_what_the_thread_could_not_read_is_told_to_whoever_needs_it_and_tried_again_after():
    broken, asked = {3}, []

    def decode(block: int) -> DecodedBlock:
        asked.append(block)
        if block in broken:
            raise DataError(f"block {block} is gone")
        return DecodedBlock(np.zeros((1, 1)), np.zeros(1))

    reader = BlockReader(decode, lambda _: 16, 1000)
    reader.expect([BlockNeed(block, block, block + 1) for block in range(6)], 0)
    wait_until(lambda: 5 in asked)
    with pytest.raises(DataError, match="block 3 is gone"):
        reader.get(3, 3)
    broken.clear()
    assert reader.get(3, 3).x.shape == (1, 1)
    reader.close()


@pytest.mark.parametrize("change", ["replaced", "grown", "removed"])
def test_a_file_that_changes_after_the_look_is_noticed_by_name(tmp_path, change):
    folder = write_source(tmp_path / "d")
    source = open_source(folder)
    path = folder / "1.parquet"
    if change == "replaced":
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[::-1])
    elif change == "grown":
        path.write_bytes(path.read_bytes() + b"more")
    else:
        path.unlink()
    training = open_training(source)
    with pytest.raises(DataError, match=r"1\.parquet") as caught:
        take_epoch(training)
    assert ("gone" if change == "removed" else "has changed") in str(caught.value)
    training.close()


@pytest.fixture
def remote(tmp_path, faults):
    folder = write_source(tmp_path / "d")
    filesystem = fsspec.filesystem("faulty")
    for path in folder.iterdir():
        filesystem.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    return faults


def take_remotely(fetcher: Fetcher) -> list:
    training = open_training(open_source("faulty://bucket"), ALL, fetcher)
    try:
        return take_epoch(training)
    finally:
        training.close()


@pytest.mark.usefixtures("remote")
def test_remote_blocks_are_the_same_from_cold_and_warm_disks_and_read_once(tmp_path):
    expected = take_remotely(Fetcher())
    cache = DiskCache(tmp_path / "cache", 1 << 20)
    cold, warm = Fetcher(cache), Fetcher(cache)
    assert are_equal(take_remotely(cold), expected)
    assert are_equal(take_remotely(warm), expected)
    assert cold.counts.bytes_read > 0
    assert (warm.counts.bytes_read, warm.counts.bytes_from_cache) == (0, cold.counts.bytes_read)


@pytest.mark.usefixtures("remote")
def test_the_disk_cache_keeps_its_limit_and_what_does_not_fit_is_read_again(tmp_path):
    expected = take_remotely(Fetcher())
    for limit in (10, 5_000):
        cache = DiskCache(tmp_path / str(limit), limit)
        assert are_equal(take_remotely(Fetcher(cache)), expected)
        assert sum(path.stat().st_size for path in cache.folder.glob("*")) <= limit


def test_threads_that_fill_the_disk_cache_together_keep_its_limit(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path / "cache", 5_000)
    start = threading.Barrier(8)

    def write_slowly(path: Path, content: bytes) -> None:
        threading.Event().wait(0.01)  # long enough for others to look at a folder that is not full yet
        path.write_bytes(content)

    def fill(number: int) -> None:
        start.wait(30)
        cache.put(DataFile(f"faulty://{number}", "", 1000, ""), 0, 1000, bytes(1000))

    monkeypatch.setattr(fetch, "write_whole", write_slowly)
    threads = [threading.Thread(target=fill, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < sum(path.stat().st_size for path in cache.folder.iterdir()) <= 5_000


@pytest.mark.usefixtures("remote")
def test_what_a_disk_spoilt_is_fetched_again(tmp_path):
    cache = DiskCache(tmp_path / "cache", 1 << 20)
    expected = take_remotely(Fetcher(cache))
    spoilt = sorted(cache.folder.iterdir())
    for number, path in enumerate(spoilt):
        content = path.read_bytes()
        path.write_bytes(content[:-1] if number % 2 else content[:5] + b"?" + content[6:])
    fetcher = Fetcher(cache)
    assert are_equal(take_remotely(fetcher), expected)
    assert fetcher.counts.bytes_read > 0


@pytest.mark.usefixtures("remote")
def test_a_disk_that_refuses_costs_speed_only(tmp_path):
    (tmp_path / "file").write_text("")
    assert take_remotely(Fetcher(DiskCache(tmp_path / "file" / "cache", 1 << 20)))


def test_storage_that_refuses_for_a_while_is_asked_again_with_patience(remote):
    expected = take_remotely(Fetcher())
    pauses: list[float] = []
    source = open_source("faulty://bucket")
    remote.refuse_next(ConnectionError("reset"), 5, ("cat_file",))
    training = open_training(source, ALL, Fetcher(pause=pauses.append))
    found = [training.take(step, lane) for step in range(training.order.lanes.num_steps) for lane in range(4)]
    training.close()
    assert are_equal(found, expected)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert remote.num_met == 5


def test_storage_that_refuses_for_good_is_given_up_by_name(remote):
    pauses: list[float] = []
    source = open_source("faulty://bucket")
    remote.refuse(ConnectionError("reset"), ("cat_file",))
    training = open_training(source, ALL, Fetcher(patience_s=10, pause=pauses.append))
    with pytest.raises(DataError, match=r"cannot read 'faulty:.*\.parquet': reset"):
        training.take(0, 0)
    assert sum(pauses) <= 10
    assert len(pauses) > 5


def test_whoever_waits_for_storage_can_be_told_to_stop(remote):
    source = open_source("faulty://bucket")
    remote.refuse(ConnectionError("reset"), ("cat_file",))
    fetcher = Fetcher(patience_s=1e6)
    threads = set(threading.enumerate())
    training = open_training(source, ALL, fetcher)
    training.expect(range(4), 0, 10)
    wait_until(lambda: remote.num_met > 0)
    fetcher.stop()
    training.close()
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("error", [PermissionError("Access Denied"), FileNotFoundError("no such key")])
def test_what_is_forbidden_or_gone_is_not_asked_for_again(remote, error):
    source = open_source("faulty://bucket")
    remote.refuse(error, ("cat_file", "info"))
    training = open_training(source, ALL, Fetcher(pause=lambda _: pytest.fail("asked again")))
    with pytest.raises(DataError, match=r"permission denied|is gone"):
        training.take(0, 0)
    assert remote.num_met > 0


def test_a_url_without_permission_is_one_sentence(remote):
    remote.refuse(PermissionError("Access Denied"))
    with pytest.raises(DataError, match="cannot read 'faulty://bucket': permission denied"):
        open_source("faulty://bucket")
