"""What data in blocks cost: python tests/bench/data.py [reading|speed|memory] [--rows 500000] [--columns 32].

`reading` prints rows a second of the first look beside pyarrow's own scan of the same files, milliseconds that a batch
takes from blocks and from an array in memory, how much a batch waited in a first epoch, and the anonymous memory
afterwards. `speed` trains the case mid (784-512-512-10, batch 512) from memory, from Parquet and from .npz blocks, and
prints milliseconds a step. `memory` trains on --gigabytes of Parquet with `memory_for_data` of 100 MB, and prints the
largest anonymous memory of the process tree that trains: 20 times a second, without the writing of the files.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from cases import CASES, Case
from pyarrow import dataset, parquet

from distbp import Placement, Recipe, train
from distbp.data.blocks.examples import BlockSource, TrainingBlocks, make_order
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.look import Question, look_at
from distbp.protocol.examples import Examples

T = TypeVar("T")
NUM_FILES, BLOCKS_PER_FILE = 4, 16
BATCH, MICROBATCH = 128, 16
MEMORY_BYTES = 64_000_000
MEMORY_COLUMNS, NUM_SHARDS, NUM_ROUNDS = 64, 32, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("reading", "speed", "memory", "training"), default="reading")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", help="where `memory` writes its files; they are removed afterwards")
    asked = parser.parse_args()
    if asked.what == "speed":
        compare_steps()
        return
    if asked.what == "training":  # what `memory` starts
        train_large(asked.folder)
        return
    if asked.what == "memory":
        measure_memory(asked.gigabytes, asked.folder)
        return
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
    print(f"memory           {read_tree_kb(os.getpid()) / 1000:12,.0f} MB, {MEMORY_BYTES / 1e6:.0f} of them for blocks")
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


def compare_steps() -> None:
    case = CASES["mid"]
    x, y = case.data()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/all.npz", x=x, y=y)
        sources = {"memory": f"{folder}/all.npz"}
        for kind in ("parquet", "npz"):
            sources[kind] = f"{folder}/{kind}"
            write_case(Path(sources[kind]), kind, x, y)
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for number in range(NUM_ROUNDS):
            for name, source in sources.items():
                seconds[name].append(time_steps(source, Path(folder) / f"runs-{name}-{number}", case))
        for name, found in seconds.items():
            median = statistics.median(found)
            step_ms, ratio = 1000 * median, median / statistics.median(seconds["memory"])
            print(f"from {name:12} {step_ms:8.2f} ms a step, {ratio:.3f} times that from memory", flush=True)


def write_case(folder: Path, kind: str, x: np.ndarray, y: np.ndarray) -> None:
    folder.mkdir()
    pieces = zip(np.array_split(x, NUM_SHARDS), np.array_split(y, NUM_SHARDS), strict=True)
    for number, (some, labels) in enumerate(pieces):
        if kind == "npz":
            np.savez(folder / f"{number:02}.npz", x=some, y=labels)
        else:
            table = pa.table({**{f"f{n}": column for n, column in enumerate(some.T)}, "y": labels})
            parquet.write_table(table, folder / f"{number:02}.parquet")


def time_steps(source: str, storage: Path, case: Case) -> float:
    """Return the median seconds of a step after the first epoch, with two workers in one process."""
    recipe = Recipe.model_validate(
        {
            "data": {"source": source, "validation": 0.0},
            "model": {"hidden": case.sizes[1:-1]},
            "optimizer": {"learning_rate": 0.01},
            "global_batch_size": case.batch,
            "microbatch_size": case.batch // case.num_microbatches,
            "epochs": 3,
        }
    )
    times: list[float] = []
    train(recipe, Placement(workers=2, storage=str(storage)), observe=lambda _: times.append(time.perf_counter()))
    first = len(times) // 3
    return (times[-1] - times[first]) / (len(times) - 1 - first)


def measure_memory(gigabytes: float, folder: str | None) -> None:
    """Write the files, then train on them in a process of its own, whose tree is what is measured."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        rows = int(gigabytes * 1e9 / (4 * MEMORY_COLUMNS))
        write_large(Path(place) / "data", rows)
        size = measure_bytes(Path(place) / "data")
        print(f"{size / 1e9:.2f} GB of Parquet, {rows:,} rows", flush=True)
        environment = {**os.environ, "XDG_CACHE_HOME": f"{place}/cache"}
        training = subprocess.Popen([sys.executable, __file__, "training", "--folder", place], env=environment)
        peak_kb = 0
        try:
            while training.poll() is None:
                peak_kb = max(peak_kb, read_tree_kb(training.pid))
                time.sleep(0.05)
        finally:
            training.kill()
            training.wait()
        print(f"anonymous memory of the process tree at most {peak_kb / 1000:,.0f} MB, the first look included")


def train_large(place: str) -> None:
    recipe = Recipe.model_validate(
        {
            "data": {"source": f"{place}/data", "validation": 0.0, "window_blocks": 2},
            "model": {"hidden": [32]},
            "global_batch_size": 4096,
            "microbatch_size": 1024,
            "epochs": 1,
        }
    )
    began, peak_kb = time.perf_counter(), 0

    def observe(_: object) -> None:
        nonlocal peak_kb
        peak_kb = max(peak_kb, read_tree_kb(os.getpid()))

    result = train(recipe, Placement(workers=2, storage=f"{place}/runs", memory_for_data="100MB"), observe=observe)
    print(
        f"{result.steps:,} steps, {time.perf_counter() - began:.0f} s with the first look, {result.seconds:.0f} s of "
        f"training, {result.data_s:.0f} s of them waiting for data; at most {peak_kb / 1000:,.0f} MB after a step",
        flush=True,
    )


def read_tree_kb(pid: int) -> int:
    """Return the anonymous memory of a process and of all that it started; 0 for one that has ended."""
    try:
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in read_children(task)]
    except OSError:
        return 0
    return (int(found[1]) if found else 0) + sum(map(read_tree_kb, children))


def read_children(task: Path) -> list[int]:
    return [int(child) for child in (task / "children").read_text().split()]


def write_large(folder: Path, num_rows: int) -> None:
    """Write random float32 in files of 40 blocks of 4 MB."""
    folder.mkdir()
    rng, rows_per_block = np.random.default_rng(0), 4_000_000 // (4 * MEMORY_COLUMNS)
    for number, start in enumerate(range(0, num_rows, 40 * rows_per_block)):
        count = min(40 * rows_per_block, num_rows - start)
        x = rng.standard_normal((MEMORY_COLUMNS, count), np.float32)
        columns = {f"f{n}": column for n, column in enumerate(x)}
        table = pa.table({**columns, "y": (x[0] > 0).astype(np.int64)})
        parquet.write_table(table, folder / f"{number:03}.parquet", row_group_size=rows_per_block, use_dictionary=False)


def measure(call: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began


if __name__ == "__main__":
    main()
