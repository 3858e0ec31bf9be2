"""Rounds on Ray: the bytes of the local backend, also when workers are killed or the run is stopped within a round."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rounds_by_hand import ROUNDS

from distbp import verify
from distbp.errors import TerminatedRunError
from distbp.run import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A private cluster for this file; its processes can import the models beside it."""
    from distbp.backends.ray.cluster import RayCluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        cluster = RayCluster("local", num_cpus=8)
        yield
        cluster.close()


@pytest.fixture
def pids(monkeypatch) -> Callable[[], list[int]]:
    """Returns a function that tells the process ids of the running group's actors, by rank."""
    from distbp.backends.ray.backend import RayBackend

    backends: list[RayBackend] = []
    start = RayBackend.start

    def watch(backend: RayBackend, *group, **options) -> object:
        backends.append(backend)
        return start(backend, *group, **options)

    monkeypatch.setattr(RayBackend, "start", watch)
    return lambda: [process.pid for process in backends[-1].processes]


@pytest.fixture
def slow_recipe(make_recipe, monkeypatch):
    """Rounds of 4 steps of 3 replicas, each of which takes 0.3 s or more: one worker needs 3.6 s for a round."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return make_recipe(
        model={"function": "slow_rounds_model:build", "options": {"seconds": 0.3 / 3}},
        rounds={**ROUNDS, "steps": 4},
        microbatch_size=6,
        epochs=1,
    )


def test_the_bytes_on_ray_are_those_in_one_process(train_toy, make_recipe):
    recipe = make_recipe(model={"hidden": [300, 300]}, rounds={**ROUNDS, "steps": 2})
    local = train_toy("local", recipe=recipe)
    for workers, servers in ((1, 1), (2, 1), (2, 2), (4, 2)):
        on_ray = train_toy(f"ray-{workers}-{servers}", recipe, backend="ray", workers=workers, servers=servers)
        assert on_ray.digest == local.digest
        assert verify(local.run, on_ray.run).first_difference is None


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_killed_within_a_round_changes_no_bytes(rank, train_toy, slow_recipe, pids):
    """Rank 0 is the server too, so the run goes on from its newest checkpoint, here from the beginning."""
    killed = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            try:
                found = pids()
            except IndexError:  # no group yet
                found = []
            if len(found) == 3:
                time.sleep(1.0)  # a round takes longer
                killed.append(found[rank])
                os.kill(found[rank], signal.SIGKILL)
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    disturbed = train_toy("disturbed", slow_recipe, backend="ray", workers=3)
    thread.join()
    assert len(killed) == 1
    assert disturbed.recoveries == 1
    assert disturbed.digest == train_toy("whole", slow_recipe).digest


def test_a_stop_within_a_round_on_ray_is_answered_before_the_round_is_over(train_toy, slow_recipe, tmp_path):
    """The stop comes in the second round, which takes as long as the first."""
    took = {}

    def stop() -> None:
        path = tmp_path / "runs" / "stopped" / "steps.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (path.exists() and path.stat().st_size):
            time.sleep(0.05)
        took["asked"] = time.monotonic()
        signal.raise_signal(signal.SIGTERM)

    recipe = slow_recipe.model_copy(update={"epochs": 3})
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(TerminatedRunError, match=r"stopped after step (4|5) of 15, checkpointed"):
        train_toy("stopped", recipe, backend="ray", workers=1)
    thread.join()
    assert "asked" in took
    steps = RunDirectory.open(str(tmp_path / "runs" / "stopped")).read_steps()
    assert [record.step for record in steps] == list(range(1, len(steps) + 1))
    assert train_toy("stopped", recipe, backend="ray", workers=2).digest == train_toy("whole", recipe).digest
