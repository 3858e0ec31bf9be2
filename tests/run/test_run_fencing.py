"""What a driver does that was replaced while it was stopped does not reach the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from distbp.errors import CheckpointError, StorageError
from distbp.run import CheckpointStore, EventLog, RunDirectory, StepLog, StepRecord
from distbp.run.lock import LOCK_FILE
from distbp.run.owner import LockOwner

RECORD = StepRecord(1, 0, 0.5, 10, 0.1, 0.1, 0.1, "0" * 16)


@pytest.fixture
def replaced(run: RunDirectory) -> Iterator[RunDirectory]:
    """A run held by a driver that another one has replaced, of which it does not know."""
    lock = run.lock(heartbeat_s=1000)
    lock.acquire()
    other = LockOwner.of_this_process()
    RunDirectory.open(run.url).folder.write(LOCK_FILE, other.encode())
    yield run
    lock.release()
    assert LockOwner.decode(run.folder.read(LOCK_FILE)) == other


def list_files(run: RunDirectory) -> dict[str, bytes | None]:
    """The content of every file of a run."""
    found: dict[str, bytes | None] = {}

    def look(folder, prefix: str) -> None:
        for name in folder.names():
            if folder.child(name).names():
                look(folder.child(name), f"{prefix}{name}/")
            else:
                found[prefix + name] = folder.read(name)

    look(RunDirectory.open(run.url).folder, "")
    return found


CHANGES = {
    "a checkpoint": lambda run, make: CheckpointStore(run, keep=1).save(make(7)),
    "a checkpoint again": lambda run, make: CheckpointStore(run, keep=1).save(make(5)),
    "pruning": lambda run, _: CheckpointStore(run, keep=1).prune(9),
    "the result": lambda run, _: run.write_result({"digest": "0"}),
    "the recipe": lambda run, _: run.change_recipe(run.read_config().recipe.model_copy(update={"epochs": 99})),
    "a line": lambda run, _: run.folder.append("steps.jsonl", b"{}\n"),
    "a new file": lambda run, _: run.folder.write_new("new", b"{}\n"),
    "a file that goes": lambda run, _: run.folder.remove("steps.jsonl"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_replaced_driver_changes_nothing(run, make_checkpoint, change, request):
    store = CheckpointStore(run, keep=5)
    for step in (3, 5):
        store.save(make_checkpoint(step))
    run.folder.write("steps.jsonl", b'{"step": 1}\n')
    request.getfixturevalue("replaced")
    before = list_files(run)
    with pytest.raises(CheckpointError, match="was taken over by another driver"):
        CHANGES[change](run, make_checkpoint)
    assert list_files(run) == before


@pytest.mark.parametrize("log", ["steps", "events"])
def test_lines_of_a_replaced_driver_are_not_written(replaced, log):
    before = list_files(replaced)
    with pytest.raises(CheckpointError, match="was taken over by another driver"):
        append(replaced, log)
    assert list_files(replaced) == before


def append(run: RunDirectory, log: str) -> None:
    if log == "steps":
        with StepLog(run) as steps:
            steps.append(RECORD)
    else:
        events = EventLog(run)
        events.append("finished", step=1)
        events.close()


def test_a_driver_whose_lock_was_removed_changes_nothing(run):
    with run.lock(heartbeat_s=1000):
        RunDirectory.open(run.url).folder.remove(LOCK_FILE)
        with pytest.raises(CheckpointError, match=r"or its lock\.json was removed"):
            run.write_result({})
    assert run.folder.read("result.json") is None


def test_a_folder_that_is_away_is_trouble_with_storage_and_no_other_driver(local_run, tmp_path):
    folder = Path(local_run.url)
    with local_run.lock(heartbeat_s=1000):
        folder.rename(tmp_path / "away")
        with pytest.raises(StorageError) as raised:
            local_run.folder.append("steps.jsonl", b"{}\n")
        assert not isinstance(raised.value, CheckpointError)
        (tmp_path / "away").rename(folder)
        local_run.folder.append("steps.jsonl", b"{}\n")
    assert (folder / "steps.jsonl").read_bytes() == b"{}\n"


def test_a_driver_that_has_the_run_writes_and_gives_it_back(run, make_checkpoint):
    with run.lock():
        CheckpointStore(run, keep=1).save(make_checkpoint(4))
        run.write_result({"digest": "0"})
    assert CheckpointStore(run, keep=1).list_steps() == [4]
    assert run.folder.read(LOCK_FILE) is None


def test_a_folder_that_is_away_for_some_heartbeats_is_no_loss_of_the_run(local_run, tmp_path):
    folder, away = Path(local_run.url), tmp_path / "away"
    with local_run.lock(heartbeat_s=0.01) as lock:
        folder.rename(away)
        before = (away / LOCK_FILE).read_bytes()
        time.sleep(0.1)  # some heartbeats, which find nothing
        away.rename(folder)
        wait_until(lambda: (folder / LOCK_FILE).read_bytes() != before)
        lock.check()
