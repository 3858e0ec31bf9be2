"""Training while storage refuses, hangs or dawdles: it goes on, and ends with the bytes of an undisturbed run."""

from __future__ import annotations

import errno
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_storage import WRITES

from distbp.backends.local import LocalBackend
from distbp.errors import DivergedError, StorageError
from distbp.protocol.recovery import GroupLostError
from distbp.run import CheckpointStore, RunDirectory
from distbp.run.storage.remote_folder import RemoteFolder
from distbp.training import Progress

pytestmark = pytest.mark.slow

FAULTY = "faulty://bucket/runs"
REFUSALS = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "read-only": OSError(errno.EROFS, "Read-only file system"),
    "unreachable": ConnectionError("connection refused"),
}


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.run.storage.outbox.FIRST_RETRY_S", 0.02)
    monkeypatch.setattr("distbp.run.storage.outbox.MAX_RETRY_AT_END_S", 0.05)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where rescued states go."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteFolder, "patience_s", 0.3)


@pytest.fixture
def long_recipe(make_recipe):
    """24 steps."""
    return make_recipe(epochs=8)


def at(step: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Return an observer that acts once a step is done."""

    def observe(progress: Progress) -> None:
        if progress.position.step == step:
            act()

    return observe


def both(*observers: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def observe(progress: Progress) -> None:
        for observer in observers:
            observer(progress)

    return observe


@pytest.mark.parametrize("error", [pytest.param(error, id=name) for name, error in REFUSALS.items()])
def test_storage_that_refuses_for_a_while_costs_nothing(error, faults, train_toy, long_recipe, here, caplog):
    caplog.set_level(logging.WARNING, "distbp")
    refuse, end = at(4, lambda: faults.refuse(error)), at(20, faults.end)
    disturbed = train_toy(recipe=long_recipe, storage=FAULTY, checkpoint_every_steps=4, observe=both(refuse, end))
    whole = train_toy("whole", recipe=long_recipe)
    assert faults.num_met > 0
    assert disturbed.digest == whole.digest
    run = RunDirectory.open(disturbed.run)
    theirs = RunDirectory.open(whole.run).read_steps()
    assert [(r.step, r.checksum) for r in run.read_steps()] == [(r.step, r.checksum) for r in theirs]
    assert [event["kind"] for event in run.read_events()].count("storage_recovered") == 1
    assert sum("writing is tried again" in r.getMessage() for r in caplog.records) == 1
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("impatient", "here")
def test_storage_that_refuses_to_the_end_leaves_all_that_is_needed_to_resume(faults, train_toy, long_recipe):
    refuse = at(10, lambda: faults.refuse(REFUSALS["full"], ("pipe_file",)))
    with pytest.raises(
        StorageError, match=r"no space is left.* step 24 was saved in 'distbp-rescue-run/run'"
    ) as caught:
        train_toy(recipe=long_recipe, storage=FAULTY, checkpoint_every_steps=4, observe=refuse)
    assert caught.value.exit_code == 4
    faults.end()
    whole = train_toy("whole", recipe=long_recipe)
    steps = []
    resumed = train_toy(recipe=long_recipe, storage=FAULTY, observe=lambda p: steps.append(p.position.step))
    assert steps[0] <= 12  # it resumes from what storage has
    rescued = train_toy(recipe=long_recipe, storage="distbp-rescue-run", resume="must")
    assert resumed.digest == rescued.digest == whole.digest


def test_training_does_not_wait_for_storage_that_hangs(faults, train_toy, long_recipe):
    trained = threading.Event()

    def hang(method: str, path: str) -> None:
        if method in WRITES and "checkpoints" in path:
            faults.num_met += 1
            assert trained.wait(30), "training waited for storage"

    observe = both(at(3, lambda: setattr(faults, "meet", hang)), at(24, trained.set))
    disturbed = train_toy(recipe=long_recipe, storage=FAULTY, checkpoint_every_steps=2, observe=observe)
    assert faults.num_met > 0
    assert disturbed.digest == train_toy("whole", recipe=long_recipe).digest


def test_training_waits_for_slow_storage_once_and_says_so(train_toy, long_recipe, monkeypatch, caplog):
    from distbp.run.storage.local_folder import LocalFolder

    caplog.set_level(logging.WARNING, "distbp")
    trained = threading.Event()
    save = CheckpointStore.save

    def hang(*args: object) -> None:
        assert trained.wait(30), "training waited for storage"
        save(*args)

    monkeypatch.setattr(LocalFolder, "prompt_s", 0.05)
    monkeypatch.setattr(CheckpointStore, "save", hang)
    train_toy(recipe=long_recipe, checkpoint_every_steps=2, observe=at(24, trained.set))
    warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == 1
    assert "training does not wait, so more than checkpoint_every_steps=2 may have to be done again" in warnings[0]


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8])
def test_a_crash_after_any_step_costs_at_most_checkpoint_every_steps(every, train_toy, long_recipe, tmp_path):
    run_dir = tmp_path / "runs" / "run"
    behind = []

    def look(progress: Progress) -> None:
        """Read from storage what a driver would find that comes after a crash now."""
        newest = CheckpointStore(RunDirectory.open(str(run_dir)), 1).load_latest()
        behind.append(progress.position.step - (newest.step if newest else 0))

    train_toy(recipe=long_recipe, checkpoint_every_steps=every, observe=look)
    assert len(behind) == 24
    assert max(behind) <= every


@pytest.mark.usefixtures("impatient", "here")
def test_sigterm_while_storage_refuses_saves_the_state_where_it_can(faults, train_toy, long_recipe):
    refuse = at(7, lambda: faults.refuse(REFUSALS["unreachable"]))
    stop = at(9, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(StorageError, match="the state after step 9 was saved in 'distbp-rescue-run/run'"):
        train_toy(recipe=long_recipe, storage=FAULTY, observe=both(refuse, stop))
    resumed = train_toy(recipe=long_recipe, storage="distbp-rescue-run", resume="must")
    assert resumed.digest == train_toy("whole", recipe=long_recipe).digest


@pytest.mark.usefixtures("impatient", "here")
def test_divergence_is_told_also_when_storage_refuses(faults, train_toy, make_recipe, toy_data):
    recipe = make_recipe(
        data={"source": str(toy_data), "task": "regression", "scaling": "none"},
        model={"hidden": [], "loss": "squared_error"},
        optimizer={"learning_rate": 5.0, "momentum": 0.0},
        epochs=200,
    )
    with pytest.raises(DivergedError, match=r"training diverged: .*no space is left"):
        train_toy(recipe=recipe, storage=FAULTY, observe=at(3, lambda: faults.refuse(REFUSALS["full"], WRITES)))
    assert faults.num_met > 0


@pytest.mark.usefixtures("here")
def test_a_group_that_is_lost_while_storage_refuses_goes_on_from_the_checkpoint_that_waits(
    faults, train_toy, long_recipe, monkeypatch
):
    run = LocalBackend.run
    seen = []

    def lose_once(self, orders):
        for report in run(self, orders):
            if report.step == 11 and 11 not in seen:
                seen.append(11)
                raise GroupLostError("lost everyone")
            seen.append(report.step)
            yield report

    monkeypatch.setattr(LocalBackend, "run", lose_once)
    refuse, end = at(6, lambda: faults.refuse(REFUSALS["full"], WRITES)), at(20, faults.end)
    disturbed = train_toy(recipe=long_recipe, storage=FAULTY, checkpoint_every_steps=4, observe=both(refuse, end))
    first_again = seen[seen.index(11) + 1]
    assert first_again == 10  # from the checkpoint of step 9, which storage had refused
    assert disturbed.recoveries == 1
    assert disturbed.digest == train_toy("whole", recipe=long_recipe).digest


def test_reading_the_end_of_a_run_is_tried_again(faults, train_toy, make_recipe, monkeypatch):
    load = CheckpointStore.load

    def fail_once(self, step: int):
        monkeypatch.setattr(CheckpointStore, "load", load)
        faults.refuse_next(REFUSALS["unreachable"], 1)
        return load(self, step)

    monkeypatch.setattr(CheckpointStore, "load", fail_once)
    assert train_toy(recipe=make_recipe(), storage=FAULTY).steps == 6
    assert faults.num_met == 1
