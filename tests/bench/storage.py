"""What storage costs and what its faults do: python tests/bench/storage.py speeds|faults. Needs s3fs and moto[server].

speeds: steps per second with storage of each kind, beside those of a run that hardly writes.
faults: each fault lasts a minute of a run that takes 50 steps a second: the longest pause between two steps, whether
the digest is that of an undisturbed run, and what the run said.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np

from distbp import Placement, Recipe, train
from distbp.errors import DistbpError
from distbp.training import Progress

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "s3")]

import s3_server
from faulty_storage import WRITES, make_faulty_storage

ROUNDS = 3
FAULT_S = 60.0
PAUSE_S = 0.02


@dataclass(frozen=True)
class Measured:
    """One run. digest: None if it ended with an error, which `said` then is."""

    steps_per_s: float
    longest_pause_s: float
    digest: str | None
    said: str


class Listener(logging.Handler):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def make_recipe(network: str, folder: str, epochs: int) -> Recipe:
    """Return the digits, or the tiny network 784-30-10 on noise."""
    if network == "digits":
        return Recipe(epochs=epochs)
    rng = np.random.default_rng(0)
    path = f"{folder}/tiny.npz"
    np.savez(path, x=rng.random((6400, 784), dtype=np.float32), y=rng.integers(0, 10, 6400))
    model = {"data": {"source": path}, "model": {"hidden": [30]}, "microbatch_size": 32}
    return Recipe.model_validate({**model, "epochs": epochs})


def measure(
    recipe: Recipe, storage: str, observe: Callable[[Progress], None] | None = None, every: int = 100
) -> Measured:
    """Train a new run and return how fast its steps were."""
    times: list[float] = []

    def note(progress: Progress) -> None:
        times.append(time.perf_counter())
        if observe is not None:
            observe(progress)

    listener = Listener()
    logging.getLogger("distbp").addHandler(listener)
    name = f"run-{time.monotonic_ns()}"
    try:
        placement = Placement(storage=storage, workers=1, checkpoint_every_steps=every)
        digest = train(recipe, placement, name=name, observe=note).digest
    except DistbpError as error:
        digest = None
        listener.lines.append(f"exit {error.exit_code}: {error}")
    finally:
        logging.getLogger("distbp").removeHandler(listener)
    pauses = np.diff(times)
    return Measured(1 / pauses.mean(), pauses.max(), digest, " | ".join(listener.lines))


def fault_between(first: float, last: float, begin: Callable[[], None], end: Callable[[], None]):
    """Return an observer that begins a fault `first` seconds into a run and ends it from a thread at `last`."""
    began: list[float] = []

    def observe(_progress: Progress) -> None:
        now = time.monotonic()
        if not began:
            began.append(now)
            threading.Timer(last, end).start()
        elif len(began) == 1 and now - began[0] > first:
            began.append(now)
            begin()
        time.sleep(PAUSE_S)

    return observe


@contextmanager
def s3() -> Iterator[tuple[s3_server.S3Server, s3_server.Proxy]]:
    with ExitStack() as stack:
        server = stack.enter_context(s3_server.start_server())
        proxy = s3_server.Proxy(server.address)
        stack.callback(proxy.close)
        os.environ.update(s3_server.KEYS, AWS_ENDPOINT_URL=proxy.url)
        fsspec.filesystem("s3").mkdir("bench")
        yield server, proxy


def compare_speeds(folder: str) -> None:
    """Print the steps per second of each kind of storage, relative to a run that hardly writes."""
    for network, epochs in (("digits", 80), ("tiny", 20)):
        recipe = make_recipe(network, folder, epochs)
        kinds = {
            "hardly any": (f"{folder}/runs", 10**6),
            "disk": (f"{folder}/runs", 100),
            "s3": ("s3://bench/runs", 100),
            "slow": ("faulty://bench/runs", 100),
        }
        make_faulty_storage().delay(0.3, WRITES)
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind, (storage, every) in kinds.items():
                rates[kind].append(measure(recipe, storage, every=every).steps_per_s)
        for kind, found in rates.items():
            ratio = statistics.median(a / b for a, b in zip(found, rates["hardly any"], strict=True))
            print(f"{network:7s} {kind:11s} {statistics.median(found):7,.0f} steps/s  {ratio:.2f}", flush=True)


def try_faults(folder: str, server: s3_server.S3Server, proxy: s3_server.Proxy) -> None:
    """Print what each fault did to a run that lasts longer than it."""
    recipe = make_recipe("digits", folder, epochs=int((FAULT_S + 10) / PAUSE_S / 23))
    whole = measure(recipe, f"{folder}/runs", lambda _: time.sleep(PAUSE_S))
    print(f"undisturbed: longest pause {whole.longest_pause_s:.3f} s", flush=True)
    faults = make_faulty_storage()
    full = OSError(28, "No space left on device")
    trials = {
        "full": ("faulty://bench/runs", lambda: faults.refuse(full, WRITES), faults.end),
        "cut off": ("s3://bench/runs", proxy.cut, proxy.mend),
        "frozen": ("s3://bench/runs", server.stop, server.resume),
    }
    for name, (storage, begin, end) in trials.items():
        found = measure(recipe, storage, fault_between(1.0, 1.0 + FAULT_S, begin, end))
        same = "same digest" if found.digest == whole.digest else f"DIGEST {found.digest}"
        pause = f"longest pause {found.longest_pause_s:.3f} s"
        print(f"{name:8s} for {FAULT_S:g} s: {pause}, {same}; {found.said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speeds", "faults"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distbp-bench-") as folder, s3() as (server, proxy):
        os.chdir(folder)
        if arguments.what == "speeds":
            compare_speeds(folder)
        else:
            try_faults(folder, server, proxy)


if __name__ == "__main__":
    main()
