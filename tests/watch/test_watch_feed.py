"""The state of real runs: under way, finished, stopped, diverged, killed, silent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from distbp import Placement, Recipe, train
from distbp.errors import CheckpointError, DivergedError, StorageError, TerminatedRunError
from distbp.run import RunDirectory
from distbp.run.lock import LOCK_FILE
from distbp.run.records import EVENTS_FILE, STEPS_FILE
from distbp.watch import JobFeed, RunFeed, Watch

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 3})


def test_a_finished_run_is_told_with_its_result(finished):
    state = RunFeed(finished.run).look()
    assert (state.state, state.step, state.num_steps, state.progress) == ("finished", 69, 69, 1.0)
    assert state.digest == finished.digest
    assert state.happened.evaluated.accuracy == finished.validation_accuracy
    assert sum(state.accounts.values()) == pytest.approx(1)
    assert state.accounts["work"] == pytest.approx(finished.work_s / finished.seconds, abs=0.01)
    records = RunDirectory.open(finished.run).read_steps()
    assert all(0 < record.mean_compute_s <= record.compute_s for record in records)
    losses = [record.loss for record in records]
    assert [loss for _, loss in state.steps.losses.points] == pytest.approx(losses)
    assert json.loads(json.dumps(state.to_json()))["state"] == "finished"


def test_a_run_is_seen_while_it_is_trained_and_after_it_was_stopped_and_resumed(storage):
    states = []

    def look(progress):
        if progress.position.step == 1:
            feeds.append(RunFeed(f"{storage}/run"))
        if progress.position.step in (24, 40):
            states.append(feeds[0].look())
        if progress.position.step == 40:
            signal.raise_signal(signal.SIGTERM)

    feeds = []
    with pytest.raises(TerminatedRunError):
        train(RECIPE, Placement(storage=storage), name="run", observe=look)
    assert {state.state for state in states} <= {"running", "waiting"}
    stopped = feeds[0].look()
    assert (stopped.state, stopped.step, stopped.num_steps) == ("stopped", 40, 69)
    assert "the same command resumes" in stopped.detail
    train(RECIPE, Placement(storage=storage), name="run")
    done = feeds[0].look()
    assert (done.state, done.step, done.seconds_left) == ("finished", 69, None)
    assert len(done.steps.losses.points) == 69


def test_a_diverged_run_is_told_with_the_reason(tmp_path):
    recipe = Recipe.model_validate({"optimizer": {"learning_rate": 1e6}, "epochs": 2})
    with pytest.raises(DivergedError):
        train(recipe, Placement(storage=str(tmp_path)), name="run")
    state = RunFeed(f"{tmp_path}/run").look()
    assert state.state == "diverged"
    assert "try a learning rate below" in state.detail


def test_a_killed_driver_is_told_from_a_silent_one_on_another_machine(tmp_path):
    script = (
        "import os, signal, distbp\n"
        "def kill(progress):\n"
        "    if progress.position.step == 30: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"distbp.train(distbp.Recipe(), distbp.Placement(storage={str(tmp_path)!r}), name='run', observe=kill)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == -signal.SIGKILL
    feed = RunFeed(f"{tmp_path}/run")
    assert feed.look().state == "died"
    lock = json.loads((tmp_path / "run" / LOCK_FILE).read_text())
    lock |= {"host": "another", "heartbeat": time.time() - 3}
    (tmp_path / "run" / LOCK_FILE).write_text(json.dumps(lock))
    assert feed.look().state in ("running", "waiting")
    (tmp_path / "run" / LOCK_FILE).write_text(json.dumps({**lock, "heartbeat": time.time() - 75.0}))
    state = feed.look()
    assert state.state == "silent"
    assert "on host 'another' (last sign of life 75 s ago)" in state.detail


def test_a_run_that_took_the_place_of_another_is_noticed(run, make_line, make_event):
    folder = run.folder
    folder.write(EVENTS_FILE, make_event("started", step=0, num_steps=500))
    folder.write(STEPS_FILE, b"".join(make_line(step) for step in range(1, 300)))
    feed = RunFeed(run.url)
    assert (feed.look().step, feed.look().num_steps) == (299, 500)
    folder.write(EVENTS_FILE, make_event("started", step=0, num_steps=70) + make_event("formed", step=0, workers=2))
    folder.write(STEPS_FILE, make_line(1))
    state = feed.look()
    assert (state.step, state.num_steps, len(state.steps.losses.points)) == (1, 70, 1)


def test_a_run_with_a_damaged_configuration_is_still_shown(run, make_line):
    run.folder.write("config.yaml", b"recipe: [")
    run.folder.write(STEPS_FILE, make_line(1) + b"\xff\x00\n" + make_line(2))
    state = RunFeed(run.url).look()
    assert (state.step, state.steps.num_damaged) == (2, 1)
    assert "config.yaml' is damaged" in state.note


def test_there_is_a_sentence_where_there_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run"):
        RunFeed(str(tmp_path / "none"))


def test_a_job_is_shown_before_its_run_is_there(finished, tmp_path):
    feed = JobFeed("job", str(tmp_path / "run"), lambda: ("job job-1 is PENDING", False))
    state = feed.look()
    assert (state.state, state.step) == ("waiting", 0)
    assert "job-1 is PENDING; no run is in" in state.detail
    (tmp_path / "run").symlink_to(finished.run)
    assert (feed.look().state, feed.look().name) == ("finished", "job")


def test_a_job_that_failed_before_its_run_was_there_has_failed(tmp_path):
    state = JobFeed("job", str(tmp_path / "run"), lambda: ("job job-1 is FAILED: no data", True)).look()
    assert (state.state, state.is_over) == ("failed", True)


class Flaky:
    """A feed whose storage fails with every second look."""

    name, interval_s = "flaky", 0.01

    def __init__(self, run: str):
        self._feed = RunFeed(run)
        self._num_looks = 0

    def look(self):
        self._num_looks += 1
        if self._num_looks % 2 == 0:
            raise StorageError("the storage is away")
        return self._feed.look()


def test_storage_that_fails_for_a_while_is_a_note_and_what_was_known_stays(finished):
    notes = set()
    with Watch([Flaky(finished.run)]) as watch:
        for _ in range(1000):
            watch.wait_for_look(5)
            (state,) = watch.states
            assert state.step == 69
            notes.add(state.note)
            if len(notes) == 2:
                break
    assert notes == {None, "the storage is away (what is shown is older)"}


class Defective(Flaky):
    def look(self):
        if self._num_looks:
            raise ZeroDivisionError
        return super().look()


def test_a_defect_in_a_thread_reaches_the_one_who_watches(finished):
    with Watch([Defective(finished.run)]) as watch:
        watch.wait_for_look(5)
        with pytest.raises(ZeroDivisionError):
            watch.check()
