"""Storage that refuses for a while or for good: nothing waits for it, nothing is lost or doubled, one warning."""

from __future__ import annotations

import errno
import logging
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_storage import WRITES, FaultyFileSystem
from waiting import wait_until

from distbp.config import Config
from distbp.errors import CheckpointError, StorageError
from distbp.run import CheckpointStore, CheckpointWriter, EventLog, RunDirectory, StepLog, StepRecord
from distbp.run.lock import LOCK_FILE
from distbp.run.owner import LockOwner
from distbp.run.storage.remote_folder import RemoteFolder

pytestmark = pytest.mark.slow

FULL = OSError(errno.ENOSPC, "No space left on device")
AWAY = ConnectionError("connection refused")


@pytest.fixture
def run(faults) -> RunDirectory:  # noqa: ARG001 - makes the storage
    return RunDirectory.create("faulty://bucket/runs", "a", Config(), {"numpy": "2.0"})


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.run.storage.outbox.FIRST_RETRY_S", 0.02)
    monkeypatch.setattr("distbp.run.storage.outbox.MAX_RETRY_AT_END_S", 0.05)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where rescued states go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteFolder, "patience_s", 0.3)


def record(step: int) -> StepRecord:
    return StepRecord(step, 0, 0.5, 64, 0.001, 0.0, 0.0, f"{step:016x}")


def test_what_storage_refuses_is_written_when_it_can_be_again_with_one_warning(run, faults, make_checkpoint, caplog):
    caplog.set_level(logging.INFO, "distbp")
    steps, events, store = StepLog(run), EventLog(run), CheckpointStore(run, keep=3)
    with CheckpointWriter(store) as writer:
        faults.refuse(FULL, WRITES)
        for step in range(1, 101):
            steps.append(record(step))
            if step % 10 == 0:
                writer.submit(make_checkpoint(step), best=step == 50)
        events.append("started")
        wait_until(lambda: faults.num_met >= 2)  # it is tried again
        assert store.list_steps() == []
        faults.end()
    assert store.list_steps() == [50, 100]
    assert [r.step for r in run.read_steps()] == list(range(1, 101))
    recovered = [event for event in run.read_events() if event["kind"] == "storage_recovered"]
    assert len(recovered) == 1
    assert recovered[0]["attempts"] >= 3
    assert "no space is left" in recovered[0]["reason"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "no space is left; free some" in warning
    assert "training goes on, and writing is tried again" in warning


def test_lines_that_were_written_although_the_call_failed_are_not_written_twice(run):
    pipe = FaultyFileSystem.pipe_file
    failures = []

    def write_then_fail(self, path, *args, **options):
        pipe(self, path, *args, **options)
        if path.endswith("steps.jsonl") and len(failures) < 2:
            failures.append(path)
            raise AWAY

    with pytest.MonkeyPatch.context() as patch, StepLog(run) as log:
        patch.setattr(FaultyFileSystem, "pipe_file", write_then_fail)
        log.append(record(1))
        wait_until(lambda: failures)
        log.append(record(2))
        log.close()
    content = run.folder.read("steps.jsonl")
    assert len(failures) == 2
    assert content.count(b"\n") == 2
    assert run.read_steps() == [record(1), record(2)]


def test_no_checkpoint_is_ahead_of_its_log(run, faults, make_checkpoint):
    steps, store = StepLog(run), CheckpointStore(run, keep=3)
    with CheckpointWriter(store) as writer:
        faults.refuse_next(AWAY, 1, ("pipe_file",), "steps.jsonl")
        steps.append(record(1))
        wait_until(lambda: faults.num_met == 1)
        steps.append(record(2))
        writer.submit(make_checkpoint(2))
    written = [path for method, path in faults.calls if method == "pipe_file"]
    manifest = next(index for index, path in enumerate(written) if path.endswith("manifest.json"))
    before = [path for path in written[:manifest] if path.endswith("steps.jsonl")]
    assert len(before) == 3  # refused, then both lines one after the other
    assert [r.step for r in run.read_steps()] == [1, 2]


@pytest.mark.usefixtures("impatient")
def test_storage_that_stays_away_is_given_up_with_the_newest_state_beside_the_process(
    run, faults, make_checkpoint, assert_equal_checkpoints, here
):
    steps = StepLog(run)
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    faults.refuse(AWAY)
    for step in (1, 2):
        steps.append(record(step))
        writer.submit(make_checkpoint(step))
    with pytest.raises(StorageError) as caught:
        writer.close()
    message = str(caught.value)
    assert "connection refused" in message
    assert re.search(r"\(tried \d+ times in 0 s\)", message)
    assert "the state after step 2 was saved in 'distbp-rescue-a/a'" in message
    assert "--storage distbp-rescue-a --name a" in message
    rescued = RunDirectory.open("distbp-rescue-a/a")
    assert rescued.read_config() == Config()
    assert rescued.read_steps() == [record(1), record(2)]
    assert_equal_checkpoints(CheckpointStore(rescued, keep=1).load_latest(), make_checkpoint(2))
    assert [path.name for path in here.iterdir()] == ["distbp-rescue-a"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("is_refused", [True, False])
def test_a_signal_ends_the_wait_with_the_state_saved_elsewhere(run, faults, make_checkpoint, monkeypatch, is_refused):
    monkeypatch.setattr(RemoteFolder, "patience_s", 1000.0)
    hangs = threading.Event()
    if is_refused:
        faults.refuse(AWAY)
    else:
        faults.meet = lambda method, _: None if method not in WRITES else hangs.wait()
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    writer.submit(make_checkpoint(1))
    reason = "connection refused" if is_refused else "a signal ended the wait"
    with pytest.raises(StorageError, match=rf"{reason}.*state after step 1 was saved in 'distbp-rescue-a/a'"):
        writer.close(must_end=lambda: True)
    faults.end()
    hangs.set()
    assert CheckpointStore(RunDirectory.open("distbp-rescue-a/a"), keep=1).list_steps() == [1]


@pytest.mark.usefixtures("impatient", "here")
def test_a_rescue_without_room_for_log_lines_keeps_the_checkpoint(run, faults, make_checkpoint, monkeypatch):
    def refuse(*_: object) -> None:
        raise StorageError("no space is left")

    monkeypatch.setattr("distbp.run.storage.local_folder.LocalFolder.append", refuse)
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    steps = StepLog(run)
    faults.refuse(AWAY)
    steps.append(record(1))
    writer.submit(make_checkpoint(1))
    where = r"step 1 was saved in 'distbp-rescue-a/a' without the newest lines of its logs \(no space is left\)"
    with pytest.raises(StorageError, match=where):
        writer.close()
    assert CheckpointStore(RunDirectory.open("distbp-rescue-a/a"), keep=1).list_steps() == [1]


@pytest.mark.usefixtures("impatient", "here")
def test_nothing_is_written_after_storage_was_given_up(run, faults, make_checkpoint):
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    faults.refuse(AWAY)
    writer.submit(make_checkpoint(1))
    with pytest.raises(StorageError):
        writer.close()
    faults.end()
    with pytest.raises(StorageError, match="connection refused"):
        EventLog(run).append("ended")
    assert run.folder.names() == ["config.yaml", "numerics.json"]


def test_rescued_state_is_removed_when_storage_comes_back_in_time(run, faults, make_checkpoint, here, monkeypatch):
    store = CheckpointStore(run, keep=3)
    writer = CheckpointWriter(store)
    faults.refuse(AWAY)
    publish = RunDirectory.copy_to
    copies = []

    def note_and_end_the_fault(self, storage: str) -> RunDirectory:
        copies.append(storage)
        faults.end()
        return publish(self, storage)

    monkeypatch.setattr(RunDirectory, "copy_to", note_and_end_the_fault)
    writer.submit(make_checkpoint(1))
    writer.close()
    assert copies == ["distbp-rescue-a"]
    assert list(here.iterdir()) == []
    assert store.list_steps() == [1]


@pytest.mark.usefixtures("impatient")
def test_a_state_that_can_be_saved_nowhere_is_told(run, faults, make_checkpoint, monkeypatch, here):
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    faults.refuse(AWAY)

    def refuse(*_: object) -> None:
        raise StorageError("the disk is full too")

    monkeypatch.setattr(RunDirectory, "copy_to", refuse)
    writer.submit(make_checkpoint(1))
    with pytest.raises(StorageError, match=r"could not be saved elsewhere either: the disk is full too; the disk is"):
        writer.close()
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("impatient", "here")
def test_missing_log_lines_alone_are_told_as_that(run, faults):
    log = EventLog(run)
    faults.refuse(AWAY)
    log.append("started")
    with pytest.raises(StorageError, match=r"every checkpoint is there, only the last lines of the logs are missing"):
        log.close()


def test_a_driver_whose_lock_was_taken_writes_nothing_more(run, make_checkpoint):
    with run.lock(heartbeat_s=0.01) as lock:
        writer = CheckpointWriter(CheckpointStore(run, keep=3))
        run.folder.write(LOCK_FILE, replace(LockOwner.of_this_process(), token="other").encode())
        wait_until(lambda: not lock.is_held)
        EventLog(run).append("started")
        with pytest.raises(CheckpointError, match="was taken over by another driver"):
            writer.wait()
        with pytest.raises(CheckpointError, match="was taken over by another driver"):
            writer.submit(make_checkpoint(1))
    assert run.read_events() == []
    assert run.folder.child("checkpoints").names() == []


def test_more_lines_than_may_wait_are_dropped_and_counted(run, faults, monkeypatch):
    monkeypatch.setattr("distbp.run.storage.backlog.MAX_LINES_BYTES", 1000)
    with StepLog(run) as log:
        faults.refuse(FULL, WRITES)
        for step in range(1, 101):
            log.append(record(step))
        wait_until(lambda: faults.num_met)
        faults.end()
    kept = run.read_steps()
    (event,) = run.read_events()
    assert 0 < len(kept) < 100
    assert event["lost_lines"] == 100 - len(kept)
    assert [r.step for r in kept] == list(range(1, len(kept) + 1))


def test_storage_that_cannot_keep_up_anyway_is_not_kept_busy(run, faults, make_checkpoint):
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    faults.delay(0.05, ("pipe_file",), "state.safetensors")
    began = time.monotonic()
    step = 0
    while time.monotonic() - began < 1.0:
        step += 1
        writer.submit(make_checkpoint(step))
        time.sleep(0.002)
    busy = 0.05 * faults.num_met / (time.monotonic() - began)
    writer.close()
    assert faults.num_met >= 2
    assert busy < 0.6  # without a limit it is nearly all the time
    assert CheckpointStore(run, keep=3).load_latest().step == step


def test_silent_storage_is_given_up_too(run, faults, make_checkpoint, monkeypatch, here):
    monkeypatch.setattr("distbp.run.storage.outbox.RESCUE_AFTER_S", 0.05)
    monkeypatch.setattr("distbp.run.storage.outbox.MAX_SILENCE_S", 0.3)
    writer = CheckpointWriter(CheckpointStore(run, keep=3))
    faults.delay(1.5, WRITES)
    writer.submit(make_checkpoint(4))
    with pytest.raises(StorageError, match=r"no answer for 0 s; .* step 4 was saved in 'distbp-rescue-a/a'"):
        writer.close()
    assert (here / "distbp-rescue-a").is_dir()
