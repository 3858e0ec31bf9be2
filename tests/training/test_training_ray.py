"""train() on Ray: the bytes of one process, from any number of actors, stopped and resumed anywhere."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from distbp import verify
from distbp.protocol.messages import Snapshot, StepReport

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 6, 7, 8])
def test_ray_gives_the_bytes_of_one_process(workers, train_toy):
    local, on_ray = train_toy("local", workers=1), train_toy("ray", backend="ray", workers=workers)
    assert verify(local.run, on_ray.run).first_difference is None
    assert on_ray.digest == local.digest
    assert (on_ray.train_loss, on_ray.validation_loss) == (local.train_loss, local.validation_loss)


def test_several_servers_give_the_bytes_of_one(train_toy, make_recipe):
    wide = make_recipe(model={"hidden": [600, 300]}, epochs=1)  # more than two blocks of parameters
    local = train_toy("local", recipe=wide)
    on_ray = train_toy("ray", recipe=wide, backend="ray", workers=3, servers=3)
    assert on_ray.digest == local.digest


def test_a_run_that_moves_between_backends_and_sizes_at_every_step_ends_like_an_undisturbed_one(train_toy, train_until):
    placements = [
        {"backend": "ray", "workers": 3},
        {"backend": "local", "workers": 2},
        {"backend": "ray", "workers": 1, "threads_per_worker": 2},
        {"backend": "local", "workers": 5},
        {"backend": "ray", "workers": 2},
    ]
    for step, placement in enumerate(placements, start=1):
        train_until(step, checkpoint_every_steps=1, **placement)
    assert train_toy(backend="ray", workers=3).digest == train_toy("whole").digest


def test_a_ray_run_stopped_and_resumed_at_any_step_ends_like_an_undisturbed_one(train_toy, train_until):
    digests = {train_toy("whole").digest}
    for step in range(1, 6):
        train_until(step, name=f"split-{step}", backend="ray", workers=2, checkpoint_every_steps=1)
        digests.add(train_toy(f"split-{step}", backend="ray", workers=2).digest)
    assert len(digests) == 1


def test_float64_gives_the_bytes_of_one_process(train_toy, make_recipe):
    recipe = make_recipe(dtype="float64")
    assert train_toy("ray", recipe=recipe, backend="ray").digest == train_toy("local", recipe=recipe).digest


def test_a_users_own_model_gives_the_bytes_of_one_process(train_toy, make_recipe):
    recipe = make_recipe(model={"function": "own_model:build", "options": {"spread": 0.1}})
    assert train_toy("ray", recipe=recipe, backend="ray").digest == train_toy("local", recipe=recipe).digest


def test_the_driver_gets_no_array_but_the_state_it_checkpoints(train_toy, monkeypatch):
    import ray

    found: list[object] = []
    get = ray.get

    def watch(references, **options):
        value = get(references, **options)
        found.append(value)
        return value

    monkeypatch.setattr(ray, "get", watch)
    train_toy(backend="ray", workers=3)
    values = list(walk(found))
    assert {value.step for value in values if isinstance(value, StepReport)} == {1, 2, 3, 4, 5, 6}
    snapshots = [value for value in values if isinstance(value, Snapshot)]
    num_arrays = sum(isinstance(value, np.ndarray) for value in values)
    assert len(snapshots) <= 2  # at the end of each epoch, because it was the best so far
    assert num_arrays == 2 * len(snapshots)


def walk(value: object):
    """Everything inside lists, tuples and dataclasses."""
    yield value
    if isinstance(value, list | tuple):
        inner = list(value)
    elif dataclasses.is_dataclass(value):
        inner = list(vars(value).values())
    else:
        inner = []
    yield from itertools.chain.from_iterable(walk(item) for item in inner)
