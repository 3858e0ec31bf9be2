"""Runs on S3: a real server in its own process, cut off and frozen in the middle of uploads."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest
from command_line import run_distbp, start_distbp
from waiting import wait_until

from distbp import Placement, Recipe, Result, load_run, train
from distbp.__main__ import main
from distbp.config import Config
from distbp.errors import CheckpointError, StorageError, TerminatedRunError
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.run.storage.remote_folder import RemoteFolder
from distbp.training import Progress

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [200, 100]}, "global_batch_size": 128, "epochs": 4})
NUM_STEPS = 48
STATE_BYTES = 280_000  # of one checkpoint


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.run.storage.outbox.FIRST_RETRY_S", 0.02)
    monkeypatch.setattr("distbp.run.storage.outbox.MAX_RETRY_AT_END_S", 0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train(RECIPE, Placement(storage=str(tmp_path_factory.mktemp("runs"))), name="whole")


def train_on(storage: str, observe: Callable[[Progress], None] | None = None, **options) -> Result:
    placement = Placement(storage=storage, checkpoint_every_steps=8)
    return train(RECIPE, placement, name="run", observe=observe, **options)


def at(step: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    def observe(progress: Progress) -> None:
        if progress.position.step == step:
            act()

    return observe


def test_a_run_stopped_and_resumed_on_s3_ends_like_one_on_disk(s3_storage, whole):
    with pytest.raises(TerminatedRunError, match="stopped after step 13 of 48, checkpointed"):
        train_on(s3_storage, at(13, lambda: signal.raise_signal(signal.SIGTERM)))
    seen = []
    resumed = train_on(s3_storage, lambda progress: seen.append(progress.position.step), resume="must")
    assert seen[0] == 14
    assert resumed.digest == whole.digest
    run = RunDirectory.open(resumed.run)
    theirs = RunDirectory.open(whole.run).read_steps()
    assert [(r.step, r.checksum) for r in run.read_steps()] == [(r.step, r.checksum) for r in theirs]
    assert load_run(resumed.run).evaluate() == load_run(whole.run).evaluate()
    assert run.folder.read("lock.json") is None


@pytest.mark.parametrize("sent", [1_000, STATE_BYTES - 20_000, STATE_BYTES + 3_000])
def test_a_connection_cut_in_the_middle_of_uploads_costs_nothing(sent, s3_storage, proxy, whole):
    """sent: bytes from step 6 on until everything is cut, up to step 40."""
    cut = at(6, lambda: setattr(proxy, "cut_after_bytes", sent))
    cut_at_the_latest, mend = at(30, proxy.cut), at(40, proxy.mend)

    def observe(progress: Progress) -> None:
        for act in (cut, cut_at_the_latest, mend):
            act(progress)

    result = train_on(s3_storage, observe)
    assert proxy.num_cut > 0
    assert result.digest == whole.digest
    store = CheckpointStore(RunDirectory.open(result.run), keep=3)
    assert [store.load(step).step for step in store.list_steps()][-1] == NUM_STEPS
    steps = [record.step for record in RunDirectory.open(result.run).read_steps()]
    assert steps == list(range(1, NUM_STEPS + 1))


@pytest.mark.parametrize("sent", [150_000, 282_500, 284_000])
def test_readers_find_only_whole_checkpoints_after_an_upload_was_torn(sent, s3_storage, proxy):
    run = RunDirectory.create(s3_storage, "torn", Config(), {})
    store = CheckpointStore(run, keep=3)
    store.save(make_checkpoint(1))
    proxy.cut_after_bytes = sent
    with pytest.raises(StorageError):
        save_again_and_again(store, make_checkpoint(2))
    proxy.mend()
    reader = CheckpointStore(RunDirectory.open(run.url), keep=3)
    found = reader.load_latest()
    assert found.tensors["w"].tobytes() == make_checkpoint(found.step).tensors["w"].tobytes()
    assert (found.step, reader.skipped) in ((1, []), (1, ["step-00000002: it has no manifest.json"]), (2, []))
    store.save(make_checkpoint(2))
    assert reader.load_latest().step == 2


def test_the_manifest_is_uploaded_last(s3_storage, monkeypatch):
    uploads = []
    write = RemoteFolder.write

    def note(self, name: str, content: bytes, sync: bool = True) -> None:
        uploads.append(name)
        write(self, name, content, sync)

    run = RunDirectory.create(s3_storage, "order", Config(), {})
    monkeypatch.setattr(RemoteFolder, "write", note)
    store = CheckpointStore(run, keep=3)
    store.save(make_checkpoint(1))
    store.save(make_checkpoint(1), best=True)
    assert uploads[:2] == ["state.safetensors", "manifest.json"]
    assert uploads[3] == "manifest.json"
    assert uploads[2].startswith("state-")
    assert len(uploads) == 4


def save_again_and_again(store: CheckpointStore, checkpoint: Checkpoint) -> None:
    for _ in range(3):
        store.save(checkpoint)


def make_checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": np.arange(35_000.0) + step}, str(step), "recipe", {}, {}, {})


def test_training_goes_on_while_the_server_is_frozen(s3_storage, server, whole, caplog):
    """34 steps are done before storage has so much as failed once."""
    failures = []

    def observe(progress: Progress) -> None:
        if progress.position.step == 6:
            server.stop()
        if progress.position.step == 40:
            failures.append("writing is tried again" in caplog.text)
            server.resume()

    assert train_on(s3_storage, observe).digest == whole.digest
    assert failures == [False]


def test_a_server_that_stays_frozen_ends_a_run_that_can_be_resumed(
    s3_storage, server, whole, monkeypatch, tmp_path, caplog
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distbp.run.storage.remote_folder.CALL_TIMEOUT_S", 1.5)
    monkeypatch.setattr(RemoteFolder, "patience_s", 1.0)
    with pytest.raises(StorageError, match=r"no answer within .* step 48 was saved in 'distbp-rescue-run/run'"):
        train_on(s3_storage, at(6, server.stop))
    assert "training goes on, and writing is tried again" in caplog.text
    server.resume()
    monkeypatch.undo()
    assert train(RECIPE, Placement(storage=f"{tmp_path}/distbp-rescue-run"), name="run").digest == whole.digest


def test_of_many_drivers_that_start_at_once_on_s3_one_gets_the_run(s3_storage):
    run = RunDirectory.create(s3_storage, "contested", Config(), {})
    start = threading.Barrier(6)
    refused, locks = [], []

    def drive() -> None:
        lock = RunDirectory.open(run.url).lock()
        start.wait()
        try:
            lock.acquire()
            locks.append(lock)
        except CheckpointError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks) == 1
    assert all("is in use by process" in reason for reason in refused)
    locks[0].release()
    assert run.folder.read("lock.json") is None


def test_a_driver_killed_on_s3_leaves_a_run_that_the_same_command_resumes(s3_storage, capfd):
    command = ["train", "--storage", s3_storage, "--name", "killed", "--set", "epochs=60"]
    process = start_distbp(*command)

    def has_checkpoint() -> bool:
        assert process.poll() is None, "it ended before it could be killed"
        if not RunDirectory.exists(s3_storage, "killed"):
            return False
        return bool(CheckpointStore(RunDirectory.open(f"{s3_storage}/killed"), 1).list_steps())

    wait_until(has_checkpoint)
    process.kill()
    process.communicate()
    assert main([*command, "--resume", "must"]) == 0
    assert "resuming 'killed' after step" in capfd.readouterr().err


@pytest.mark.usefixtures("proxy")
def test_a_missing_bucket_is_told(capfd):
    assert main(["train", "--storage", "s3://no-such-bucket/runs"]) == 4
    error = capfd.readouterr().err
    assert "cannot write 's3://no-such-bucket/runs/" in error
    assert "create the bucket" in error


def test_a_server_that_is_not_there_is_told(s3_storage, proxy):
    proxy.cut()
    done = run_distbp("train", "--storage", s3_storage, timeout_s=60)
    assert done.returncode == 4
    assert "check the storage and the connection to it" in done.stderr
