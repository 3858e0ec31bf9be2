from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import distbp.run
from distbp.config import Config, load_config, parse_config
from distbp.errors import CheckpointError, ConfigError, StorageError
from distbp.run import CheckpointStore, RunDirectory, next_name


def test_public_names_are_pinned():
    assert distbp.run.__all__ == [
        "Checkpoint",
        "CheckpointStore",
        "CheckpointWriter",
        "EventLog",
        "RunDirectory",
        "RunLock",
        "StepLog",
        "StepRecord",
        "next_name",
    ]


def test_created_run_opens_with_the_same_config_and_numerics(storage):
    values = {
        "recipe": {
            "data": {"source": "s3://bucket/tür #1: yes.csv", "target": ["on", "1e3", "2026-01-01"]},
            "optimizer": {"learning_rate": 1e-5},
            "model": {"function": "my:build", "options": {"width": 3, "names": [None, True]}},
        }
    }
    config = parse_config(values)
    created = RunDirectory.create(storage, "a", config, {"numpy": "2.0", "probe": ["x"]})
    opened = RunDirectory.open(created.url)
    assert opened.name == "a"
    assert opened.read_config() == config
    assert opened.read_config().recipe.digest == config.recipe.digest
    assert opened.read_numerics() == {"numpy": "2.0", "probe": ["x"]}


def test_saved_config_can_be_trained_again(local_run):
    assert load_config(Path(local_run.url) / "config.yaml") == Config()


def test_names_that_are_taken_are_refused_and_the_run_is_left_alone(run, storage):
    with pytest.raises(CheckpointError, match=r"digits' already exists; resume it"):
        RunDirectory.create(storage, "digits", Config(), {"numpy": "9"})
    assert run.read_numerics() == {"numpy": "2.0"}


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "..", "é", "a" * 101, "a\n"])
def test_unsafe_names_are_refused(storage, name):
    with pytest.raises(ConfigError, match="cannot be used; expected"):
        RunDirectory.create(storage, name, Config(), {})


def test_a_new_name_is_none_that_other_commands_take_for_an_option(storage):
    with pytest.raises(ConfigError, match="'-x' begins with a dash"):
        RunDirectory.create(storage, "-x", Config(), {})


def test_lists_runs_and_nothing_else(storage):
    assert RunDirectory.list_names(storage) == []
    for name in ("b", "a-2"):
        RunDirectory.create(storage, name, Config(), {})
    run = RunDirectory.open(f"{storage}/b")
    run.folder.parent.write("notes.txt", b"x")
    run.folder.parent.publish("other", lambda folder: folder.write("x", b""))
    assert RunDirectory.list_names(storage) == ["a-2", "b"]
    assert RunDirectory.exists(storage, "b")
    assert not RunDirectory.exists(storage, "other")


def test_next_name_is_the_first_that_is_free(storage):
    assert next_name(storage, "digits") == "digits"
    for name in ("digits", "digits-2"):
        RunDirectory.create(storage, name, Config(), {})
    assert next_name(storage, "digits") == "digits-3"


@pytest.mark.usefixtures("run")
def test_opening_the_storage_folder_names_the_runs_in_it(storage):
    with pytest.raises(CheckpointError, match=r"is no run but holds runs: digits; .* for example '.*/runs/digits'"):
        RunDirectory.open(storage)


@pytest.mark.usefixtures("run")
def test_opening_a_missing_run_names_the_runs_beside_it(storage):
    with pytest.raises(CheckpointError, match=r"there is no run '.*/digit'; runs beside it: digits"):
        RunDirectory.open(f"{storage}/digit")


def test_opening_a_file_says_so(run):
    with pytest.raises(CheckpointError, match=r"config.yaml' is a file, not a run"):
        RunDirectory.open(f"{run.url}/config.yaml")


def test_opening_nothing_at_all_says_so(storage):
    with pytest.raises(CheckpointError, match=r"there is no run .* no run is in"):
        RunDirectory.open(f"{storage}/x")


@pytest.mark.parametrize("content", [b"", b"recipe: [", b"recipe: 3", b"recipe: {epochs: -1}", b"\xff\xfe\x00", b"- 1"])
def test_damaged_config_is_told_in_one_sentence(run, content):
    run.folder.write("config.yaml", content)
    with pytest.raises(CheckpointError, match=r"config.yaml' is damaged: ") as caught:
        run.read_config()
    assert "\n" not in str(caught.value)


def test_result_is_absent_until_written_and_then_replaced(run):
    assert run.read_result() is None
    run.write_result({"loss": 1.0})
    run.write_result({"loss": np.float32(0.5), "validation_loss": math.nan, "steps": np.int64(3)})
    assert run.read_result() == {"loss": 0.5, "validation_loss": "NaN", "steps": 3}


def test_a_result_that_was_changed_is_refused(run):
    run.write_result({"digest": "abc", "loss": 0.5})
    run.folder.write("result.json", run.folder.read("result.json").replace(b"abc", b"abd"))
    with pytest.raises(CheckpointError, match=r"result.json' is damaged: it was changed after it was written; remove"):
        run.read_result()


def test_storage_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("x")
    for use in (
        lambda: RunDirectory.create(str(tmp_path / "runs"), "a", Config(), {}),
        lambda: RunDirectory.list_names(str(tmp_path / "runs")),
        lambda: RunDirectory.exists(str(tmp_path / "runs"), "a"),
    ):
        with pytest.raises(StorageError, match=r"runs' is a file; expected a folder"):
            use()


def test_storage_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="a file is in the way"):
        RunDirectory.create(str(tmp_path / "file" / "runs"), "a", Config(), {})


def test_storage_that_cannot_be_written_is_refused():
    with pytest.raises(StorageError, match="cannot write '/proc/runs/a'"):
        RunDirectory.create("/proc/runs", "a", Config(), {})


def test_failed_creation_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("distbp.run.directory.StoredConfig.encode", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        RunDirectory.create(str(tmp_path), "a", Config(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_only_read_gets_nothing_to_write_with(run, make_checkpoint, monkeypatch):
    CheckpointStore(run, keep=1).save(make_checkpoint(1))
    monkeypatch.setattr("distbp.run.directory.Outbox", None)
    read = RunDirectory.open(run.url)
    assert (read.read_config(), read.read_steps(), read.read_events()) == (run.read_config(), [], [])
    assert CheckpointStore(read, keep=1).load_latest().step == 1
