"""`distbp list STORAGE`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from distbp.cli.app import app
from distbp.config import load_config
from distbp.run import RunDirectory
from distbp.service.storage import list_stored_runs
from distbp.training import train


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
