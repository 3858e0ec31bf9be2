"""A program: runs on Ray that overlap in one process which has not met Ray before. Prints JSON: what came of it."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from test_training_overlap import state_of_process

from distbp import Placement, Recipe, train

SOURCE, STORAGE = sys.argv[2:]


def run(name: str, workers: int = 1, backend: str = "ray", observe: Any = None) -> str:
    recipe = Recipe.model_validate({"data": {"source": SOURCE}, "global_batch_size": 100, "epochs": 2})
    placement = Placement.model_validate({"backend": backend, "workers": workers, "storage": STORAGE})
    return train(recipe, placement, name=name, observe=observe).digest


def private() -> dict[str, Any]:
    """The first run starts a private Ray; the second joins it, waits for its turn, and is left alone with it."""
    digests = [run("alone", backend="local"), run("imports")]
    before = state_of_process()
    with ThreadPoolExecutor(1) as pool:
        found: list[Any] = []

        def observe(progress: Any) -> None:
            if progress.position.step == 2:
                found.append(pool.submit(run, "second"))

        digests.append(run("first", observe=observe))
        digests.append(found[0].result(120))
    pool.shutdown()
    return {"digests": digests, "is_connected": ray.is_initialized(), "changed": find_changes(before)}


def own() -> dict[str, Any]:
    """The user's own connection: a second run begins and ends inside the first."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    digests = [run("alone", backend="local"), run("imports")]
    before = state_of_process()

    def observe(progress: Any) -> None:
        if progress.position.step == 2:
            thread = threading.Thread(target=lambda: digests.append(run("inner")))
            thread.start()
            thread.join(120)

    digests.append(run("outer", observe=observe))
    answer = ray.get(ray.remote(lambda: 42).remote())
    changed = find_changes(before)
    is_connected = ray.is_initialized()
    ray.shutdown()
    return {"digests": digests, "is_connected": is_connected, "changed": changed, "answer": answer}


def larger() -> dict[str, Any]:
    """A second run needs more CPUs than the private Ray of the first has."""
    errors: list[str] = []

    def inner() -> None:
        try:
            run("second", workers=2)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    def observe(progress: Any) -> None:
        if progress.position.step == 2:
            thread = threading.Thread(target=inner)
            thread.start()
            thread.join(120)

    digests = [run("alone", backend="local"), run("first", observe=observe)]
    return {"digests": digests, "is_connected": ray.is_initialized(), "errors": errors}


def find_changes(before: dict[str, Any]) -> list[str]:
    after = state_of_process()
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]


if __name__ == "__main__":
    json.dump(globals()[sys.argv[1]](), sys.stdout)
