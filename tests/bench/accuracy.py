"""Seconds from process start to 87 % on Fashion-MNIST's test images, 784-128-10, batch 128, momentum 0.9, rate 0.05.

`python accuracy.py` runs every program in turn, round by round, and prints medians. Everything counts: imports,
reading the files, starting processes, an evaluation after every epoch.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FOLDER = Path("/usr/share/datasets/fashion-mnist")
TARGET = 0.87
MAX_EPOCHS = 20


class ReachedTarget(Exception):  # noqa: N818  # it is good news
    """The network is good enough."""


def distbp(backend: str, workers: int) -> None:
    """Train with train() until an epoch's evaluation reaches the target."""
    from distbp import Placement, Recipe, train

    recipe = Recipe(
        data={"source": str(FOLDER), "validation": str(FOLDER)},
        model={"hidden": (128,)},
        optimizer={"learning_rate": 0.05},
        global_batch_size=128,
        microbatch_size=64,
        epochs=MAX_EPOCHS,
    )

    def observe(progress: object) -> None:
        if (progress.position.validation_accuracy or 0) >= TARGET:  # type: ignore[attr-defined]  # a Progress
            announce(progress.position.epochs_evaluated)  # type: ignore[attr-defined]  # a Progress
            raise ReachedTarget

    with tempfile.TemporaryDirectory() as storage:
        placement = Placement(backend=backend, workers=workers, storage=storage, checkpoint_every_steps=10**6)
        try:
            train(recipe, placement, observe=observe)
        except ReachedTarget:
            return


def read_arrays(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 784) float32 in [0, 1] and labels (N,) of "train" or "t10k"."""
    images = gzip.decompress((FOLDER / f"{kind}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{kind}-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255
    return x, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def scikit_learn() -> None:
    """Train MLPClassifier epoch by epoch."""
    from sklearn.neural_network import MLPClassifier

    (x, y), (x_test, y_test) = read_arrays("train"), read_arrays("t10k")
    model = MLPClassifier(
        (128,), solver="sgd", batch_size=128, momentum=0.9, nesterovs_momentum=False, learning_rate_init=0.05,
        alpha=0.0, random_state=0,
    )  # fmt: skip
    for epoch in range(MAX_EPOCHS):
        model.partial_fit(x, y, classes=np.arange(10))
        if model.score(x_test, y_test) >= TARGET:
            return announce(epoch + 1)
    return None


def torch_ddp() -> None:
    """Train DistributedDataParallel over gloo, two processes of one thread."""
    import torch.multiprocessing

    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("spawn")
        processes = [context.Process(target=_ddp_process, args=(rank, folder)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()


def _ddp_process(rank: int, folder: str) -> None:
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    (x, y), (x_test, y_test) = ([torch.from_numpy(a) for a in read_arrays(kind)] for kind in ("train", "t10k"))
    network = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    model = torch.nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss_of = torch.nn.CrossEntropyLoss()
    for epoch in range(MAX_EPOCHS):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for start in range(0, len(order), 128):
            part = order[start : start + 128][rank::2]
            optimizer.zero_grad()
            loss_of(model(x[part]), y[part]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
        if accuracy >= TARGET:
            if rank == 0:
                announce(epoch + 1)
            break
    torch.distributed.destroy_process_group()


def announce(epochs: int) -> None:
    """Tell the parent that the target is reached."""
    print(f"REACHED {time.time()} {epochs}", flush=True)


PROGRAMS = {
    "distbp local": lambda: distbp("local", 2),
    "distbp ray 2": lambda: distbp("ray", 2),
    "scikit-learn": scikit_learn,
    "torch DDP gloo 2": torch_ddp,
}


def measure(program: str) -> tuple[float, int]:
    """Return seconds from starting the process to the target, and the epochs it took."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    began = time.time()
    done = subprocess.run(
        [sys.executable, __file__, program], capture_output=True, text=True, env=environment, check=True
    )
    _, reached, epochs = next(line for line in done.stdout.splitlines() if line.startswith("REACHED")).split()
    return float(reached) - began, int(epochs)


def main() -> None:
    """Run the program named, or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", nargs="?", choices=PROGRAMS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.program:
        PROGRAMS[options.program]()
        return
    found: dict[str, list[tuple[float, int]]] = {program: [] for program in PROGRAMS}
    for _ in range(options.rounds):
        for program in PROGRAMS:
            found[program].append(measure(program))
    for program, results in found.items():
        seconds = [result[0] for result in results]
        spread = f"({min(seconds):.2f}-{max(seconds):.2f})"
        print(f"{program:18} {statistics.median(seconds):6.2f} s {spread}, epochs {results[0][1]}")


if __name__ == "__main__":
    main()
