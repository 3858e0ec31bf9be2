"""One program of the benchmark, in a process of its own: `python programs.py PROGRAM CASE` prints seconds a step."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import tempfile
import time
from typing import Any

import numpy as np
from cases import CASES, Case

WARMUP_FRACTION = 0.2


def ours(case: Case, backend: str, workers: int, num_microbatches: int | None = None) -> float:
    """Return distbp's seconds a step: train() with run log, checksums and microbatches, as a user runs it."""
    from distbp import Placement, Recipe, train

    count = num_microbatches or case.num_microbatches
    with tempfile.TemporaryDirectory() as folder:
        x, y = case.data()
        np.savez(f"{folder}/data.npz", x=x, y=y)
        steps_per_epoch = -(-case.num_examples // case.batch)
        warmup = warmup_steps(case)
        model: dict[str, object] = {"hidden": case.sizes[1:-1]}
        if case.module is not None:
            per = "token" if case.num_places else "example"
            model = {"torch": f"bench_modules:{case.module}", "loss_per": per}
        scaling = {"scaling": "none", "task": "classification"} if case.num_places else {}
        recipe = Recipe(
            data={"source": f"{folder}/data.npz", "validation": 0.0, **scaling},
            model=model,
            optimizer={"learning_rate": 0.001, "momentum": 0.9},
            global_batch_size=case.batch,
            microbatch_size=-(-case.batch // count),
            epochs=-(-(warmup + case.num_steps) // steps_per_epoch),
        )
        placement = Placement(backend=backend, workers=workers, storage=folder, checkpoint_every_steps=10**6)
        times: list[float] = []

        train(recipe, placement, observe=lambda _: times.append(time.perf_counter()))
        return (times[-1] - times[warmup]) / (len(times) - 1 - warmup)


def warmup_steps(case: Case) -> int:
    """Return how many steps run before the clock starts."""
    return max(4, int(case.num_steps * WARMUP_FRACTION))


def torch_step(case: Case, rank: int = 0, world: int = 1) -> float:
    """Return PyTorch's seconds a step; x is float already, which spares it the conversion that distbp does."""
    import torch

    x, y = case.data()
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    if not case.num_places:
        x = x.float().div_(255)
    model = make_module(case)
    if world > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    loss_of = torch.nn.CrossEntropyLoss()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    batches = [order[i : i + case.batch] for i in range(0, len(order) - case.batch + 1, case.batch)]
    size = case.batch // world
    warmup, began = warmup_steps(case), 0.0
    for step in range(warmup + case.num_steps):
        if step == warmup:
            began = time.perf_counter()
        part = batches[step % len(batches)][rank * size : (rank + 1) * size]
        optimizer.zero_grad()
        loss = loss_of(model(x[part]).flatten(0, -2), y[part].flatten())
        loss.backward()
        optimizer.step()
        loss.item()
    return (time.perf_counter() - began) / case.num_steps


def make_module(case: Case) -> Any:
    """Return the case's network as PyTorch has it."""
    import torch

    if case.module is not None:
        return getattr(importlib.import_module("bench_modules"), case.module)(case.sizes[-1])
    layers: list[torch.nn.Module] = []
    for num_inputs, num_outputs in itertools.pairwise(case.sizes):
        layers += [torch.nn.Linear(num_inputs, num_outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_threads(case: Case, threads: int) -> float:
    """Return PyTorch's seconds a step in one process."""
    import torch

    torch.set_num_threads(threads)
    return torch_step(case)


def torch_ddp(case: Case) -> float:
    """Return the seconds a step of DistributedDataParallel over gloo with two processes of one thread."""
    import torch.multiprocessing

    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=_ddp_process, args=(case.name, rank, folder, queue)) for rank in range(2)]
        for process in processes:
            process.start()
        seconds = [queue.get() for _ in processes]
        for process in processes:
            process.join()
    return max(seconds)


def _ddp_process(name: str, rank: int, folder: str, queue: object) -> None:
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    queue.put(torch_step(CASES[name], rank, 2))  # type: ignore[attr-defined]  # a SimpleQueue
    torch.distributed.destroy_process_group()


def scikit_learn(case: Case) -> float:
    """Return scikit-learn's seconds a step, over whole epochs; it has no modules."""
    if case.module is not None:
        raise SystemExit("scikit-learn has no such network")
    import warnings

    from sklearn.neural_network import MLPClassifier

    x, y = case.data()
    x = x.astype(np.float32) / 255
    steps_per_epoch = -(-len(x) // case.batch)
    model = MLPClassifier(
        case.sizes[1:-1], solver="sgd", batch_size=case.batch, momentum=0.9, nesterovs_momentum=False,
        learning_rate_init=0.001, alpha=0.0, tol=0.0, n_iter_no_change=10**6,
    )  # fmt: skip
    seconds = []
    for epochs in (1, 1 + max(1, case.num_steps // steps_per_epoch)):
        model.max_iter = epochs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            began = time.perf_counter()
            model.fit(x, y)
            seconds.append(time.perf_counter() - began)
    return (seconds[1] - seconds[0]) / ((epochs - 1) * steps_per_epoch)


def jax_step(case: Case) -> float:
    """Return JAX's seconds a step in one process, compiled as one function; x is float already, as for PyTorch."""
    if case.module is not None:
        raise SystemExit("JAX has no such network here")
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise SystemExit("JAX is not installed") from None

    def loss_of(layers: Any, x: Any, y: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        logits = jax.nn.log_softmax(x @ layers[-1][0] + layers[-1][1])
        return -jnp.take_along_axis(logits, y[:, None], axis=1).mean()

    def step(layers: Any, velocity: Any, x: Any, y: Any) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(layers, x, y)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        return jax.tree.map(lambda w, v: w - 0.001 * v, layers, velocity), velocity, loss

    x, y = case.data()
    x = x.astype(np.float32) / 255
    rng = np.random.default_rng(0)
    pairs = itertools.pairwise(case.sizes)
    layers = [(rng.normal(0, i**-0.5, (i, o)).astype(np.float32), np.zeros(o, np.float32)) for i, o in pairs]
    velocity = jax.tree.map(np.zeros_like, layers)
    compiled = jax.jit(step, donate_argnums=(0, 1))
    order = rng.permutation(len(x))
    batches = [order[i : i + case.batch] for i in range(0, len(order) - case.batch + 1, case.batch)]
    warmup, began = warmup_steps(case), 0.0
    for number in range(warmup + case.num_steps):
        if number == warmup:
            began = time.perf_counter()
        part = batches[number % len(batches)]
        layers, velocity, loss = compiled(layers, velocity, x[part], y[part])
        float(loss)
    return (time.perf_counter() - began) / case.num_steps


def matmuls(case: Case) -> float:
    """Return the seconds that a step's matrix products alone take on one core, the whole batch at once."""
    if case.module is not None:
        raise SystemExit("a module has more than matrix products")
    import threadpoolctl

    rng = np.random.default_rng(0)
    products = []
    for layer, (i, o) in enumerate(itertools.pairwise(case.sizes)):
        a, w, d = (rng.standard_normal(s).astype(np.float32) for s in ((case.batch, i), (o, i), (case.batch, o)))
        products += [(a, w.T), (d.T, a)] + ([(d, w)] if layer else [])
    outs = [np.empty((p.shape[0], q.shape[1]), np.float32) for p, q in products]
    times = []
    with threadpoolctl.threadpool_limits(1):
        for _ in range(max(5, case.num_steps // 2)):
            began = time.perf_counter()
            for (p, q), out in zip(products, outs, strict=True):
                np.matmul(p, q, out=out)
            times.append(time.perf_counter() - began)
    return float(np.median(times))


PROGRAMS = {
    "matmuls, 1 core": matmuls,
    "distbp local 1": lambda case: ours(case, "local", 1),
    "distbp local 2": lambda case: ours(case, "local", 2),
    "distbp local 1, one piece": lambda case: ours(case, "local", 1, 1),
    "distbp ray 2": lambda case: ours(case, "ray", 2),
    "torch 1 thread": lambda case: torch_threads(case, 1),
    "torch 2 threads": lambda case: torch_threads(case, 2),
    "torch DDP gloo 2": torch_ddp,
    "scikit-learn": scikit_learn,
    "JAX": jax_step,
}

if __name__ == "__main__":
    os.environ["RAY_DEDUP_LOGS"] = "0"
    print(PROGRAMS[sys.argv[1]](CASES[sys.argv[2]]))
