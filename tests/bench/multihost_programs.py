"""One program of the multi-host benchmark, run on a host: prints its seconds as one line of JSON.

`distbp SIZES BATCH SERVERS STEPS`, `transfer NUM_PARAMETERS SERVERS STEPS`, `gloo NUM_VALUES ROUNDS`; the first two
join the Ray cluster that RAY_ADDRESS names, the third meets its peers as RANK, WORLD_SIZE and MASTER_ADDR say.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np

NUM_WORKERS = 4
WARMUP_STEPS = 3


def distbp(sizes: str, batch: int, servers: int, num_steps: int) -> dict[str, float]:
    """Return the seconds of a training step, one microbatch for each worker. sizes: layers, as in "784-30-10"."""
    inputs, *hidden, outputs = map(int, sizes.split("-"))
    return _train({"hidden": hidden}, (inputs, outputs), batch, servers, num_steps)


def transfer(num_parameters: int, servers: int, num_steps: int) -> dict[str, float]:
    """Return the seconds of a step that costs no gradient: transfer, and commit by the servers."""
    model = {"function": "free_model:build", "options": {"size": num_parameters}}
    return _train(model, (1, 2), NUM_WORKERS, servers, num_steps)


def _train(model: dict[str, Any], ends: tuple[int, int], batch: int, servers: int, num_steps: int) -> dict[str, float]:
    """Train one epoch; step: mean over the steps after the warm-up; its parts: medians, the slowest member's."""
    from distbp import Placement, Recipe, train

    with tempfile.TemporaryDirectory() as folder:
        _write_examples(f"{folder}/data.npz", batch * (WARMUP_STEPS + num_steps), *ends)
        recipe = Recipe(
            data={"source": f"{folder}/data.npz", "validation": 0.0},
            model=model,
            optimizer={"learning_rate": 0.001, "momentum": 0.9},
            global_batch_size=batch,
            microbatch_size=batch // NUM_WORKERS,
            epochs=1,
        )
        placement = Placement(
            backend="ray", workers=NUM_WORKERS, servers=servers, storage=folder, checkpoint_every_steps=10**6
        )
        times, reports = [], []

        def observe(progress: Any) -> None:
            times.append(time.perf_counter())
            reports.append(progress.report)

        train(recipe, placement, observe=observe)
    steady = reports[WARMUP_STEPS:]
    return {
        "step": (times[-1] - times[WARMUP_STEPS - 1]) / num_steps,
        "compute": statistics.median(report.compute_s for report in steady),
        "commit": statistics.median(report.commit_s for report in steady),
    }


def _write_examples(path: str, count: int, num_inputs: int, num_classes: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, num_inputs), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(count) % num_classes)


def gloo(num_values: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of torch's all-reduce of that many float32 values."""
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    values, times = torch.ones(num_values), []
    for _ in range(WARMUP_STEPS + rounds):
        torch.distributed.barrier()
        began = time.perf_counter()
        torch.distributed.all_reduce(values)
        times.append(time.perf_counter() - began)
    torch.distributed.destroy_process_group()
    return {"step": statistics.median(times[WARMUP_STEPS:])}


PROGRAMS = {program.__name__: program for program in (distbp, transfer, gloo)}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    values = [int(argument) if argument.isdigit() else argument for argument in arguments]
    print(json.dumps(PROGRAMS[name](*values)))
