"""One training over hosts for tests/bench/links.py, run on the first host: prints what it found as one line of JSON.

Every gradient is a pause as long as one takes on a core of its own, so that hosts which share cores here compute as if
they did not; steps of the replicas, commits and everything that is sent are real.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from distbp import Placement, Recipe, train

WARMUP_ROUNDS = 2


def count_sent_bytes(interface: str = "eth0") -> int:
    """Return the bytes that this host has sent so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    fields = next(line.split(":")[1].split() for line in lines if line.strip().startswith(f"{interface}:"))
    return int(fields[8])


def measure(num_parameters: int, hosts: int, steps: int, num_rounds: int, pause_us: int) -> dict[str, Any]:
    """Return seconds a step and what this host sent a step. steps: of a round; 0 commits every step."""
    length = max(1, steps)
    seen: list[tuple[float, int]] = []
    reports = []

    def observe(progress: Any) -> None:
        reports.append(progress.report)
        if progress.position.step % length == 0:
            seen.append((time.perf_counter(), count_sent_bytes()))

    with tempfile.TemporaryDirectory() as folder:
        count = hosts * length
        np.savez(f"{folder}/data.npz", x=np.zeros((count, 1), np.uint8), y=np.arange(count) % 2)
        recipe = Recipe(
            data={"source": f"{folder}/data.npz", "validation": 0.0},
            model={"function": "free_model:build", "options": {"size": num_parameters, "pause_s": pause_us / 1e6}},
            optimizer={"learning_rate": 0.001, "momentum": 0.9},
            rounds={"steps": steps, "replicas": hosts} if steps else {},
            global_batch_size=hosts,
            microbatch_size=1,
            epochs=WARMUP_ROUNDS + num_rounds,
        )
        placement = Placement(backend="ray", workers=hosts, servers=hosts, storage=folder, checkpoint_every_steps=10**6)
        result = train(recipe, placement, observe=observe)
    (began, sent_before), (ended, sent_after) = seen[WARMUP_ROUNDS - 1], seen[-1]
    num_steps = num_rounds * length
    steady = reports[WARMUP_ROUNDS * length :]
    return {
        "step_s": (ended - began) / num_steps,
        "sent_bytes_a_step": (sent_after - sent_before) / num_steps,
        "compute_s": statistics.mean(report.compute_s for report in steady),
        "commit_s": statistics.mean(report.commit_s for report in steady),
        "digest": result.digest,
    }


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
