"""One program of the multi-host benchmark, run on a host: prints its seconds as one line of JSON.

The first argument names one of PROGRAMS, the others are its arguments. `distbp` and `transfer` join the Ray cluster
that RAY_ADDRESS names; `gloo` meets its peers as RANK, WORLD_SIZE and MASTER_ADDR say.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np

from distbp import Placement, Recipe, train

WARMUP_STEPS = 3


def alone(sizes: str, num_examples: int, num_steps: int) -> dict[str, float]:
    """Return the seconds of a step of one worker in one process, on a core that nothing else uses."""
    return _train(_network(sizes), _ends(sizes), num_examples, Placement(workers=1), num_steps)


def distbp(sizes: str, batch: int, workers: int, servers: int, num_steps: int) -> dict[str, float]:
    """Return the seconds of a training step, one microbatch for each worker. sizes: layers, as in "784-30-10"."""
    placement = Placement(backend="ray", workers=workers, servers=servers)
    return _train(_network(sizes), _ends(sizes), batch, placement, num_steps)


def transfer(num_parameters: int, workers: int, servers: int, num_steps: int, pause_ms: int = 0) -> dict[str, float]:
    """Return the seconds of a step that costs no gradient, or a pause: transfer, and commit by the servers."""
    model = {"function": "free_model:build", "options": {"size": num_parameters, "pause_s": pause_ms / 1e3}}
    placement = Placement(backend="ray", workers=workers, servers=servers)
    return _train(model, (1, 2), workers, placement, num_steps)


def _network(sizes: str) -> dict[str, Any]:
    return {"hidden": [int(size) for size in sizes.split("-")[1:-1]]}


def _ends(sizes: str) -> tuple[int, int]:
    inputs, *_, outputs = map(int, sizes.split("-"))
    return inputs, outputs


def _train(
    model: dict[str, Any], ends: tuple[int, int], batch: int, placement: Placement, num_steps: int
) -> dict[str, float]:
    """Train one epoch; step: mean over the steps after the warm-up; its parts: medians, the slowest member's."""
    with tempfile.TemporaryDirectory() as folder:
        _write_examples(f"{folder}/data.npz", batch * (WARMUP_STEPS + num_steps), *ends)
        recipe = Recipe(
            data={"source": f"{folder}/data.npz", "validation": 0.0},
            model=model,
            optimizer={"learning_rate": 0.001, "momentum": 0.9},
            global_batch_size=batch,
            microbatch_size=-(-batch // placement.max_workers),
            epochs=1,
        )
        placement = placement.model_copy(update={"storage": folder, "checkpoint_every_steps": 10**6})
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


PROGRAMS = {program.__name__: program for program in (alone, distbp, transfer, gloo)}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    values = [int(argument) if argument.isdigit() else argument for argument in arguments]
    print(json.dumps(PROGRAMS[name](*values)))
