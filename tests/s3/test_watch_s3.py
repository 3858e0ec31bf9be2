"""Watching a run that writes to S3, where a log is one object that is written whole again and again."""

from __future__ import annotations

import pytest

from distbp import Placement, Recipe, train
from distbp.config import Config
from distbp.run import RunDirectory
from distbp.run.storage.remote_folder import RemoteFolder
from distbp.watch import RunFeed
from distbp.watch.log_tail import LogTail

pytestmark = pytest.mark.slow


def test_a_run_on_s3_is_seen_while_it_is_written(s3_storage, monkeypatch):
    monkeypatch.setattr(RemoteFolder, "flush_interval_s", 0.01)
    seen, feeds = [], []

    def look(progress):
        if progress.position.step == 1:
            feeds.append(RunFeed(f"{s3_storage}/run"))
        if progress.position.step % 23 == 1:
            seen.append(feeds[0].look())

    recipe = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 6})
    result = train(recipe, Placement(storage=s3_storage), name="run", observe=look)
    assert {state.state for state in seen} <= {"waiting", "running"}
    assert [state.step for state in seen] == sorted(state.step for state in seen)
    done = feeds[0].look()
    assert (done.state, done.step, done.digest) == ("finished", result.steps, result.digest)
    assert len(done.steps.losses.points) == 138


def test_only_what_is_new_is_fetched_from_s3(s3_storage, monkeypatch):
    run = RunDirectory.create(s3_storage, "run", Config(), {"numpy": "2.0"})
    lines = [b'{"step": %d}\n' % step for step in range(1, 5001)]
    run.folder.write("steps.jsonl", b"".join(lines))
    tail = LogTail(run.folder, "steps.jsonl")
    assert len(tail.read().lines) == 5000
    asked, read_range = [], run.folder.read_range
    monkeypatch.setattr(run.folder, "read_range", lambda *args: asked.append(args) or read_range(*args))
    monkeypatch.setattr(run.folder, "read", pytest.fail)
    run.folder.write("steps.jsonl", b"".join([*lines, b'{"step": 5001}\n']))
    assert tail.read().lines == (b'{"step": 5001}',)
    assert sum(stop - start for _, start, stop in asked) < 300
