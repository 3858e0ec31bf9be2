"""Whole runs in rounds: stopped, resumed, lost, evaluated; and what they say of themselves."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest
from rounds_by_hand import ROUNDS

from distbp import load_run
from distbp.errors import ConfigError, DivergedError, TerminatedRunError
from distbp.protocol.worker import Worker
from distbp.run import CheckpointStore, RunDirectory

pytestmark = pytest.mark.slow

ENDS = [2, 4, 5, 7, 9, 10, 12, 14]  # of rounds of 2 steps in epochs of 5


def steps_of(result) -> list[tuple]:
    return [
        (r.step, r.loss, r.num_examples, r.checksum, r.replicas) for r in RunDirectory.open(result.run).read_steps()
    ]


def stop_after(step: int):
    def observe(progress) -> None:
        if progress.position.step == step:
            signal.raise_signal(signal.SIGTERM)

    return observe


@pytest.mark.parametrize("end", ENDS)
def test_a_run_resumed_after_any_round_ends_like_an_undisturbed_one(end, train_toy, tmp_path):
    with pytest.raises(TerminatedRunError, match=f"stopped after step {end} of 15, checkpointed"):
        train_toy(observe=stop_after(end), workers=2)
    assert CheckpointStore(RunDirectory.open(str(tmp_path / "runs" / "run")), 1).list_steps()[-1] == end
    resumed, whole = train_toy(workers=3), train_toy("whole")
    for field in ("digest", "train_loss", "validation_loss", "validation_accuracy", "steps", "epochs"):
        assert getattr(resumed, field) == getattr(whole, field), field
    assert steps_of(resumed) == steps_of(whole)


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_stop_seen_within_a_round_ends_the_run_at_its_end(step, train_toy):
    with pytest.raises(TerminatedRunError, match=f"stopped after step {step + 1} of 15"):
        train_toy(observe=stop_after(step))
    assert train_toy().digest == train_toy("whole").digest


def test_checkpoints_stand_at_the_ends_of_rounds(train_toy):
    result = train_toy(checkpoint_every_steps=1, keep_checkpoints=20)
    assert CheckpointStore(RunDirectory.open(result.run), 20).list_steps() == [*ENDS, 15]


def test_a_round_in_which_a_checkpoint_falls_due_ends_with_one(train_toy, make_recipe):
    """Due after 6 and 12 steps; rounds end after 3, 5, 8, 10, 13 and 15."""
    recipe = make_recipe(rounds={**ROUNDS, "steps": 3}, data={"source": make_recipe().data.source, "validation": 0.0})
    result = train_toy(recipe=recipe, checkpoint_every_steps=8, keep_checkpoints=20)
    steps = CheckpointStore(RunDirectory.open(result.run), 20).list_steps()
    assert {8, 15} <= set(steps) <= {3, 5, 8, 10, 13, 15}


def test_every_step_of_a_round_is_logged(train_toy):
    records = RunDirectory.open(train_toy().run).read_steps()
    assert [record.step for record in records] == list(range(1, 16))
    assert [record.num_examples for record in records] == [50, 50, 50, 50, 30] * 3
    assert [record.epoch for record in records] == [0] * 5 + [1] * 5 + [2] * 5
    assert all(record.compute_s > 0 for record in records)
    assert all(len(set(record.replicas)) == 3 for record in records)
    assert [record.step for record in records if record.commit_s > 0] == [*ENDS, 15]


def test_the_log_of_single_steps_has_no_replicas(train_toy, make_recipe):
    result = train_toy(recipe=make_recipe(rounds={}))
    line = (Path(result.run) / "steps.jsonl").read_text().splitlines()[0]
    assert "replicas" not in json.loads(line)
    assert result.rounds is None


def test_the_result_and_the_plan_tell_of_the_rounds(train_toy, caplog):
    caplog.set_level("INFO", "distbp")
    result = train_toy()
    assert json.loads((Path(result.run) / "result.json").read_text())["rounds"] == ROUNDS
    line = next(record.getMessage() for record in caplog.records if "examples of" in record.getMessage())
    assert "15 steps of 50, in rounds: 3 replicas train apart for 2 steps, then their mean is committed" in line
    assert "outer rate 0.7, momentum 0.9 (Nesterov); 3 rounds an epoch" in line


def test_workers_without_a_replica_are_told_of(train_toy, caplog):
    caplog.set_level("INFO", "distbp")
    train_toy(workers=5)
    assert any("5 workers (2 of them without a replica, so idle)" in record.getMessage() for record in caplog.records)


def test_a_run_in_rounds_is_used_as_any_other(train_toy):
    result = train_toy()
    network = load_run(result.run)
    assert network.digest == result.digest
    assert network.evaluate().loss == result.validation_loss


def test_a_diverging_run_names_the_step_and_keeps_its_checkpoint(train_toy, make_recipe):
    recipe = make_recipe(optimizer={"learning_rate": 1e18})
    with pytest.raises(DivergedError, match=r"the loss of step \d+ is (nan|inf)"):
        train_toy(recipe=recipe, checkpoint_every_steps=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": {"steps": 2, "replicas": 9}}, r"rounds\.replicas=9 is more than the 8 microbatches of a batch"),
        ({"rounds": {"steps": 6, "replicas": 3}}, r"rounds\.steps=6 is more than the 5 steps of an epoch"),
    ],
)
def test_rounds_that_do_not_fit_are_refused(fields, message, train_toy, make_recipe):
    with pytest.raises(ConfigError, match=message):
        train_toy(recipe=make_recipe(**fields))


def test_replicas_without_steps_are_refused(make_recipe):
    with pytest.raises(ValueError, match="rounds need steps"):
        make_recipe(rounds={"replicas": 8})


class Slow:
    """Lets each gradient take a while, and tells when the first is under way."""

    def __init__(self, monkeypatch, seconds: float):
        self.has_begun = threading.Event()
        compute = Worker.compute

        def slowly(worker, *arguments):
            self.has_begun.set()
            time.sleep(seconds)
            return compute(worker, *arguments)

        monkeypatch.setattr(Worker, "compute", slowly)


def test_a_stop_in_a_long_round_is_answered_within_it_and_the_round_is_computed_again(
    train_toy, make_recipe, monkeypatch, tmp_path
):
    """A round of 12 gradients takes 7 seconds here."""
    recipe = make_recipe(rounds={**ROUNDS, "steps": 4})
    with monkeypatch.context() as patch:
        slow = Slow(patch, 0.6)

        def stop() -> None:
            slow.has_begun.wait(60)
            signal.raise_signal(signal.SIGTERM)

        timer = threading.Thread(target=stop)
        timer.start()
        with pytest.raises(TerminatedRunError, match="stopped after step 0 of 15, checkpointed, without the round"):
            train_toy(recipe=recipe)
        timer.join()
    assert RunDirectory.open(str(tmp_path / "runs" / "run")).read_steps() == []
    assert train_toy(recipe=recipe).digest == train_toy("whole", recipe=recipe).digest
