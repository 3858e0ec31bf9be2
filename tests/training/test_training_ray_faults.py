"""Actors are killed in the middle of a run: it recovers, and ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from distbp.backends import make_backend
from distbp.drill import Fault
from distbp.drill.backend import DrillBackend
from distbp.errors import DistbpError, WorkersLostError
from distbp.run import RunDirectory
from distbp.training import Progress

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NUM_EPOCHS = 4  # of 3 steps


@dataclass
class Blow:
    """Sends a signal to the processes of some ranks, once, after a step."""

    ranks: tuple[int, ...]
    step: int
    pids: Callable[[], list[int]]
    number: int = signal.SIGKILL
    hit: list[int] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        if progress.position.step == self.step and not self.hit:
            pids = self.pids()
            self.hit = [pids[rank] for rank in self.ranks]
            for pid in self.hit:
                os.kill(pid, self.number)


@pytest.fixture
def pids(monkeypatch) -> Callable[[], list[int]]:
    """Returns a function that tells the process ids of the running group's actors, by rank."""
    from distbp.backends.ray.backend import RayBackend

    backends: list[RayBackend] = []
    start = RayBackend.start

    def watch(backend: RayBackend, *group) -> object:
        backends.append(backend)
        return start(backend, *group)

    monkeypatch.setattr(RayBackend, "start", watch)
    return lambda: [process.pid for process in backends[-1].processes]


def events(result, kind: str) -> list[dict]:
    return [event for event in RunDirectory.open(result.run).read_events() if event["kind"] == kind]


@pytest.fixture
def recipe(make_recipe):
    return make_recipe(epochs=NUM_EPOCHS)


@pytest.mark.parametrize(
    "ranks",
    [pytest.param((2,), id="worker"), pytest.param((0,), id="server"), pytest.param((0, 1, 2), id="everyone")],
)
def test_a_run_whose_actors_were_killed_ends_like_an_undisturbed_one(ranks, pids, recipe, train_toy):
    fault = Blow(ranks, 5, pids)
    disturbed = train_toy("disturbed", recipe=recipe, backend="ray", workers=3, checkpoint_every_steps=2, observe=fault)
    assert len(fault.hit) == len(ranks)
    assert disturbed.recoveries >= 1
    assert disturbed.digest == train_toy("whole", recipe=recipe).digest


def test_killed_twice_a_run_still_ends_like_an_undisturbed_one(pids, recipe, train_toy):
    faults = [Blow((1,), 2, pids), Blow((0,), 8, pids)]

    def observe(progress: Progress) -> None:
        for fault in faults:
            fault(progress)

    disturbed = train_toy(
        "disturbed", recipe=recipe, backend="ray", workers=2, checkpoint_every_steps=2, observe=observe
    )
    assert all(fault.hit for fault in faults)
    assert disturbed.recoveries >= 2
    assert disturbed.digest == train_toy("whole", recipe=recipe).digest


def test_log_and_events_tell_of_a_lost_worker(pids, recipe, train_toy):
    fault = Blow((1,), 5, pids)
    disturbed = train_toy("disturbed", recipe=recipe, backend="ray", workers=2, observe=fault)
    run = RunDirectory.open(disturbed.run)
    (lost,) = [event for event in run.read_events() if event["kind"] == "lost"]
    assert f"lost worker 1 (node {os.uname().nodename}, pid {fault.hit[0]})" in lost["reason"]
    whole = RunDirectory.open(train_toy("whole", recipe=recipe).run)
    assert [(r.step, r.loss, r.checksum) for r in run.read_steps()] == [
        (r.step, r.loss, r.checksum) for r in whole.read_steps()
    ]


def test_more_failures_than_allowed_end_the_run_which_can_be_resumed(pids, recipe, train_toy):
    fault = Blow((1,), 5, pids)
    with pytest.raises(WorkersLostError, match=r"lost worker 1 .*more than max_failures=0; the same command resumes"):
        train_toy("run", recipe=recipe, backend="ray", observe=fault, max_failures=0)
    assert fault.hit
    assert train_toy("run", recipe=recipe, resume="must").digest == train_toy("whole", recipe=recipe).digest


def test_a_worker_that_hangs_counts_as_lost_after_the_time_out(pids, recipe, train_toy):
    fault = Blow((1,), 5, pids, signal.SIGSTOP)
    disturbed = train_toy("disturbed", recipe=recipe, backend="ray", observe=fault, step_timeout_s=1.5)
    assert fault.hit
    assert disturbed.recoveries >= 1
    assert disturbed.digest == train_toy("whole", recipe=recipe).digest


def test_a_slow_worker_gets_fewer_microbatches_and_the_bytes_stay(make_recipe, train_toy):
    recipe = make_recipe(model={"hidden": [1024, 1024]}, epochs=12)
    told = []

    def connect(placement):
        slow = Fault("slow", "worker", 1, 4, 8.0)
        return DrillBackend(make_backend(placement), {0: slow}, lambda *said: told.append(said))

    disturbed = train_toy("disturbed", recipe=recipe, backend="ray", workers=2, servers=1, connect=connect)
    assert told[0] == ("fired", 0, 0.0)
    (*_, newest) = events(disturbed, "shards")
    assert "worker 1 (node" in newest["text"]
    of_server, of_slow = map(int, newest["text"].rpartition("are now ")[2].split(", "))
    assert of_server + of_slow in (15, 6)  # of a whole batch, or of the last one of an epoch
    assert of_slow <= (of_server + of_slow) // 3
    assert disturbed.digest == train_toy("whole", recipe=recipe).digest


def test_a_worker_that_joins_later_is_taken_in_at_a_step_boundary(pids, recipe, train_toy):
    """Killed, it is replaced: the run goes on with the others meanwhile, and ends with all."""
    fault = Blow((2,), 5, pids)
    sizes = []

    def observe(progress: Progress) -> None:
        fault(progress)
        sizes.append(len(pids()))
        if fault.hit and len(pids()) < 3 and len(sizes) < 1000:
            time.sleep(0.02)  # training would be over before anybody can start

    recipe = recipe.model_copy(update={"epochs": 400})
    disturbed = train_toy("disturbed", recipe=recipe, backend="ray", workers=3, observe=observe)
    assert [event["workers"] for event in events(disturbed, "formed")] == [3, 2, 3]
    assert disturbed.digest == train_toy("whole", recipe=recipe).digest


def test_an_error_in_the_users_model_ends_the_run_with_one_sentence(make_recipe, train_toy):
    recipe = make_recipe(model={"function": "own_model:build_broken"})
    with pytest.raises(DistbpError, match="ZeroDivisionError"):
        train_toy(recipe=recipe, backend="ray")
