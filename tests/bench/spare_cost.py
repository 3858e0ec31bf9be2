"""What a server's spare costs: the least seconds of a commit with and without one, taken in turns in one process.

    env -u OPENBLAS_CORETYPE python tests/bench/spare_cost.py [--rounds 40] [--json FILE]

A commit is of one server's slice, SGD with momentum, of two partials as two workers hand them in.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from distbp.config import Optimizer
from distbp.group.links import SharedMemory
from distbp.group.spare import Spare
from distbp.nn.blas import one_blas_thread
from distbp.protocol.messages import Partial, ServerTask, ShardResult, StepOrder, TrainState
from distbp.protocol.server import ParameterServer

SIZES = (23_860, 101_770, 335_000, 669_706, 2_900_000)
COMMITS_S = 0.05
"""Seconds of commits in each turn."""


class Slice:
    """A server in shared memory, perhaps with a spare."""

    def __init__(self, size: int, has_spare: bool):
        rng = np.random.default_rng(0)
        self._memory = SharedMemory(size, np.float32)
        self._spare = Spare(self._memory.array, 1) if has_spare else None
        state = TrainState(0, rng.standard_normal(size).astype(np.float32), (np.zeros(size, np.float32),))
        task = ServerTask(Optimizer(), ())
        self._server = ParameterServer(task, state, 0, self._memory.array, self._spare)
        gradients = [1e-6 * rng.standard_normal(size).astype(np.float32) for _ in range(2)]
        self._results = [ShardResult((Partial(n, n + 1, g, 1.0, 32),), 0.1) for n, g in enumerate(gradients)]

    def commit_s(self) -> float:
        """Return the seconds of one commit."""
        order = StepOrder(self._server.num_steps, 0, 0, 64, 1e-6, 2)
        began = time.perf_counter()
        self._server.commit(order, self._results)
        return time.perf_counter() - began

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        if self._spare is not None:
            self._spare.close()


def measure(size: int, rounds: int) -> tuple[float, float]:
    """Return the least seconds of a commit without and with a spare."""
    slices = [Slice(size, has_spare) for has_spare in (False, True)]
    count = max(2, int(COMMITS_S / min(one.commit_s() for one in slices)))
    least = [float("inf")] * 2
    for _ in range(rounds):
        for place, one in enumerate(slices):
            least[place] = min(least[place], *(one.commit_s() for _ in range(count)))
    for one in slices:
        one.close()
    return least[0], least[1]


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with one_blas_thread():
        found = {size: measure(size, options.rounds) for size in SIZES}
    table = Table("parameters", "without, ms", "with, ms", "more, ms", title="a commit, least")
    for size, (without, kept) in found.items():
        table.add_row(f"{size:,}", *(f"{1e3 * seconds:.4f}" for seconds in (without, kept, kept - without)))
    Console(width=100).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps({str(size): times for size, times in found.items()}, indent=1))


if __name__ == "__main__":
    main()
