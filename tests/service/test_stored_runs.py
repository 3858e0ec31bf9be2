"""`distbp list STORAGE`."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from distbp.cli.app import app
from distbp.config import load_config
from distbp.errors import StorageError
from distbp.report import read_story
from distbp.run import RunDirectory
from distbp.service.storage import list_stored_runs
from distbp.training import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["a path", "a URL"])
def test_storage_lists_finished_running_stopped_and_damaged_runs(kind, tmp_path):
    storage = str(tmp_path) if kind == "a path" else "memory://stored"
    config = load_config(None, ["epochs=1", f"placement.storage={storage}"])
    result = train(config.recipe, config.placement, name="done")
    RunDirectory.create(storage, "begun", config, {})
    hurt = RunDirectory.create(storage, "hurt", config, {})
    hurt.folder.write("result.json", b"{")
    with RunDirectory.create(storage, "now", config, {}).lock():
        begun, done, damaged, now = list_stored_runs(storage)
    assert (begun.state, begun.steps, begun.digest) == ("STOPPED", 0, None)
    assert (done.run, done.state, done.digest, done.steps) == (result.run, "SUCCEEDED", result.digest, result.steps)
    assert done.validation_accuracy == result.validation_accuracy
    assert (damaged.state, "result.json' is damaged" in damaged.note) == ("DAMAGED", True)
    assert now.state == "RUNNING"


def test_command_shows_whole_digests_on_narrow_screens(tmp_path):
    config = load_config(None, ["epochs=1", f"placement.storage={tmp_path}"])
    result = train(config.recipe, config.placement, name="done")
    shown = CliRunner().invoke(app, ["list", str(tmp_path)], env={"COLUMNS": "40"}).stdout
    assert result.digest in shown
    document = json.loads(CliRunner().invoke(app, ["list", str(tmp_path), "--json"]).stdout)
    assert [run["digest"] for run in document["runs"]] == [result.digest]


def test_storage_without_runs_says_so(tmp_path):
    done = CliRunner().invoke(app, ["list", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, f"no runs in '{tmp_path}'\n")


@pytest.mark.parametrize("kind", ["a path", "a URL"])
def test_listing_reads_no_more_than_the_end_of_a_log(kind, tmp_path, monkeypatch):
    storage = str(tmp_path) if kind == "a path" else "memory://listed"
    run = RunDirectory.create(storage, "long", load_config(None, []), {})
    line = '{"step": %d, "epoch": 0, "loss": 1, "num_examples": 1, "compute_s": 0, "wait_s": 0, "commit_s": 0, '
    lines = [(line % step + f'"checksum": "{step:x}"}}\n').encode() for step in range(1, 5001)]
    run.folder.write("steps.jsonl", b"".join(lines) + b'{"torn')
    read_end, num_read = type(run.folder).read_end, []

    def count(self, name: str, num_bytes: int) -> bytes | None:
        found = read_end(self, name, num_bytes)
        num_read.append(len(found or b""))
        return found

    monkeypatch.setattr(type(run.folder), "read_end", count)
    monkeypatch.setattr(RunDirectory, "read_steps", None)
    [found] = list_stored_runs(storage)
    assert (found.state, found.steps, found.note) == ("STOPPED", 5000, None)
    assert len(num_read) == 1
    assert num_read[0] <= 1 << 16 < sum(map(len, lines))


def test_a_pipe_in_place_of_a_log_is_a_sentence_for_every_command(tmp_path):
    config = load_config(None, ["epochs=1", f"placement.storage={tmp_path}"])
    train(config.recipe, config.placement, name="piped")
    for name in ("result.json", "steps.jsonl"):
        (tmp_path / "piped" / name).unlink()
    os.mkfifo(tmp_path / "piped" / "steps.jsonl")
    [found] = list_stored_runs(str(tmp_path))
    assert (found.state, found.steps) == ("DAMAGED", 0)
    assert "steps.jsonl': it is a pipe or a device" in found.note
    with pytest.raises(StorageError, match=r"steps.jsonl': it is a pipe or a device, not a file; move or remove it"):
        train(config.recipe, config.placement, name="piped")
    with pytest.raises(StorageError, match="it is a pipe or a device"):
        read_story(str(tmp_path / "piped"))
