"""Memory: private memory of Ray workers on Fashion-MNIST, a file larger than a memory limit, a large model.

`python memory.py workers`: unique set size of each of 4 worker actors training 784-128-10.
`python memory.py mapped`: trains on a memory-mapped file four times the size of the memory that a control group
allows (needs root); prints the group's anonymous memory over time.
`python memory.py large`: 100 million parameters, 4 steps on Ray with 2 workers, and the bytes per worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MB = 1 << 20
GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT_BYTES = 200 * MB


def actor_memory() -> dict[int, tuple[int, int]]:
    """Return private and shared resident bytes of each actor below this process, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.joinpath("cmdline").read_text().startswith("ray::MemberActor"):
                found[int(path.name)] = _resident(path)
        except OSError:
            continue
    return found


def _resident(process: Path) -> tuple[int, int]:
    values: dict[str, int] = {}
    for line in process.joinpath("smaps_rollup").read_text().splitlines()[1:]:
        key, _, rest = line.partition(":")
        values[key] = int(rest.split()[0]) * 1024
    private = values["Private_Clean"] + values["Private_Dirty"]
    return private, values["Rss"] - private


def workers() -> None:
    """Measure the actors' memory at the end of an epoch."""
    from distbp import Placement, Recipe, train

    seen: dict[int, tuple[int, int]] = {}

    def observe(progress: object) -> None:
        if progress.position.step == progress.num_steps:  # type: ignore[attr-defined]  # a Progress
            seen.update(actor_memory())

    recipe = Recipe(
        data={"source": "/usr/share/datasets/fashion-mnist"},
        model={"hidden": (128,)},
        optimizer={"learning_rate": 0.05},
        global_batch_size=128,
        microbatch_size=32,
        epochs=1,
    )
    with tempfile.TemporaryDirectory() as storage:
        train(recipe, Placement(backend="ray", workers=4, storage=storage), observe=observe)
    for pid, (private, shared) in seen.items():
        print(f"actor {pid}: {private / MB:.0f} MB private, {shared / MB:.0f} MB shared")


@contextmanager
def control_group() -> Iterator[Path]:
    """Make a control group with the memory limit, and remove it when its processes have ended."""
    group = GROUPS / f"distbp-{os.getpid()}"
    group.mkdir()
    try:
        group.joinpath("memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
        yield group
    finally:
        group.rmdir()


def mapped() -> None:
    """Train one epoch on a mapped file of 4 times the limit."""
    width = 3072
    num_examples = 4 * LIMIT_BYTES // width
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, control_group() as group:
        write_large_file(f"{folder}/x.npy", num_examples, width)
        np.save(f"{folder}/y.npy", np.arange(num_examples) % 10)
        script = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -m distbp train --storage {folder}/runs " + (
            f"--set data.source={folder}/x.npy --set data.scaling=none --set model.hidden=[32] --set epochs=1 "
            "--set learning_rate=0.00001 --set global_batch_size=4096 --json"
        ).replace("--set learning_rate", "--set optimizer.learning_rate")
        process = subprocess.Popen(["sh", "-c", script])
        while process.poll() is None:
            stat = dict(line.split() for line in group.joinpath("memory.stat").read_text().splitlines())
            print(
                f"anonymous {int(stat['total_rss']) / MB:.0f} MB, page cache {int(stat['total_cache']) / MB:.0f} MB",
                flush=True,
            )
            time.sleep(5)
        peak = int(group.joinpath("memory.max_usage_in_bytes").read_text())
        sizes = (LIMIT_BYTES / MB, num_examples * width / MB, peak / MB)
        print("exit {}, limit {:.0f} MB, file {:.0f} MB, peak {:.0f} MB".format(process.returncode, *sizes))


def write_large_file(path: str, num_examples: int, width: int) -> None:
    """Write random bytes (num_examples, width), a block at a time."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (num_examples, width))
    rng = np.random.default_rng(0)
    for start in range(0, num_examples, 4096):
        array[start : start + 4096] = rng.integers(0, 256, array[start : start + 4096].shape, np.uint8)
    array.flush()
    del array  # pages that are mapped would stay
    with open(path, "rb") as file:  # noqa: PTH123  # out of the page cache, where it counts for nobody's limit
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def large() -> None:
    """Train a network of 100 million parameters for four steps."""
    from distbp import Placement, Recipe, train

    times = [time.perf_counter()]
    memory: dict[int, tuple[int, int]] = {}

    def observe(_: object) -> None:
        times.append(time.perf_counter())
        memory.update(actor_memory())

    with tempfile.TemporaryDirectory() as storage:
        recipe = Recipe(
            data={"validation": 0.0},
            model={"hidden": (10000, 9920)},
            optimizer={"learning_rate": 0.001},
            global_batch_size=360,
            microbatch_size=90,
            epochs=1,
        )
        placement = Placement(backend="ray", workers=2, storage=storage)
        result = train(recipe, placement, observe=observe)
    print(f"{result.num_parameters:,} parameters, {result.steps} steps, first after {times[1] - times[0]:.1f} s, "
          f"{result.seconds:.1f} s in all")  # fmt: skip
    for pid, (private, shared) in memory.items():
        size = 4 * result.num_parameters
        print(f"actor {pid}: private {private / size:.1f}, shared {shared / size:.1f} times the parameters' bytes")


if __name__ == "__main__":
    {"workers": workers, "mapped": mapped, "large": large}[sys.argv[1]]()
