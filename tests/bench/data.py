"""What data in blocks cost: python tests/bench/data.py [--rows 500000] [--columns 32].

Prints rows a second of the first look beside pyarrow's own scan of the same files, milliseconds that a batch takes from
blocks and from an array in memory, how much a batch waited in a first epoch, and the anonymous memory afterwards.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import dataset, parquet

from distbp.data.blocks.examples import BlockSource, TrainingBlocks, make_order
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.look import Question, look_at
from distbp.protocol.examples import Examples

T = TypeVar("T")
NUM_FILES, BLOCKS_PER_FILE = 4, 16
BATCH, MICROBATCH = 128, 16
MEMORY_BYTES = 64_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), asked.rows // NUM_FILES, asked.columns)
        print(f"{asked.rows:,} rows of {asked.columns} float32, {measure_bytes(Path(folder)):,} bytes of Parquet")
        compare_looks(folder)
        compare_batches(folder)


def write(folder: Path, num_rows: int, num_columns: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        columns = {f"f{n}": rng.normal(size=num_rows).astype(np.float32) for n in range(num_columns)}
        table = pa.table({**columns, "y": rng.integers(0, 10, num_rows)})
        parquet.write_table(table, folder / f"{number}.parquet", row_group_size=-(-num_rows // BLOCKS_PER_FILE))


def measure_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def compare_looks(folder: str) -> None:
    def scan() -> int:
        return sum(batch.num_rows for batch in dataset.dataset(folder).to_batches())

    def look() -> int:
        return look_at(Question(folder)).num_rows

    scan()  # the files are in memory from here on
    for name, count in (("pyarrow's scan", scan), ("first look", look)):
        rows, seconds = measure(count)
        print(f"{name:16} {rows / seconds:12,.0f} rows/s")


def compare_batches(folder: str) -> None:
    question = Question(folder, held_out=0.1)
    source = BlockSource(look_at(question), question, "min-max")
    order = make_order(source, BATCH, MICROBATCH, 2, 0)
    blocks = TrainingBlocks(source, order, np.float32, Fetcher(), MEMORY_BYTES)
    num_steps, lanes = order.lanes.num_steps, range(order.lanes.num_lanes)
    blocks.expect(lanes, 0, num_steps)

    def take_blocks() -> None:
        for step in range(num_steps):
            for lane in lanes:
                blocks.take(step, lane)

    _, seconds = measure(take_blocks)
    waited_ms = 1000 * blocks.reader.waited_s / num_steps
    print(f"from blocks      {1000 * seconds / num_steps:12.3f} ms a batch, of which {waited_ms:.3f} waiting for data")
    print(f"memory           {read_anonymous_kb() / 1000:12,.0f} MB, {MEMORY_BYTES / 1e6:.0f} of them for blocks")
    blocks.close()
    tables = [parquet.read_table(path).drop_columns(["y"]) for path in sorted(Path(folder).iterdir())]
    x = np.concatenate([np.column_stack(table.columns) for table in tables])
    examples = Examples(x, np.zeros(len(x), np.int64), np.arange(len(x)), source.scaling).ready(np.float32)
    shuffled = np.random.default_rng(0).permutation(len(x))

    def take_array() -> None:
        for start in range(0, num_steps * BATCH, MICROBATCH):
            examples.take(np.sort(shuffled[start : start + MICROBATCH]), np.float32)

    _, seconds = measure(take_array)
    print(f"from an array    {1000 * seconds / num_steps:12.3f} ms a batch")


def measure(call: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began


def read_anonymous_kb() -> int:
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
