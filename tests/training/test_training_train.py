"""train() in one process: what it returns and keeps."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

from distbp import load_run, train
from distbp.nn.digests import digest
from distbp.run import RunDirectory


def test_result_does_not_depend_on_placement(train_toy):
    placements = [{"workers": n} for n in (1, 2, 3, 5, 8)] + [{"workers": 2, "threads_per_worker": 3}]
    digests = [train_toy(f"run-{i}", **fields).digest for i, fields in enumerate(placements)]
    assert len(set(digests)) == 1


def test_shipped_digits_train_to_the_same_bytes_on_one_and_on_three_workers(make_recipe, make_placement):
    recipe = make_recipe(data={"source": "digits"}, epochs=1)
    digests = {train(recipe, make_placement(workers=n), name=f"run-{n}").digest for n in (1, 3)}
    assert len(digests) == 1


def test_result_says_what_happened(train_toy):
    result = train_toy(workers=3)
    assert (result.steps, result.epochs, result.final_step, result.stopped_early) == (6, 2, 6, False)
    assert (result.backend, result.workers, result.recoveries) == ("local", 3, 0)
    assert result.num_parameters == (6 * 7 + 7) + (7 * 5 + 5) + (5 * 3 + 3)


def test_digest_is_that_of_the_parameters_in_the_run(train_toy):
    result = train_toy()
    flat = np.concatenate([parameter.ravel() for parameter in load_run(result.run).parameters.values()])
    assert digest(flat) == result.digest


def test_evaluating_the_run_gives_the_validation_numbers_of_training(train_toy):
    result = train_toy(workers=3)
    report = load_run(result.run).evaluate()
    assert (report.loss, report.accuracy) == (result.validation_loss, result.validation_accuracy)


def test_loss_in_the_result_is_the_mean_over_the_last_epochs_examples(train_toy):
    reports = []
    result = train_toy(observe=lambda progress: reports.append(progress.report))
    last = [report for report in reports if report.epoch == 1]
    assert sum(report.num_examples for report in last) == 240
    assert result.train_loss == pytest.approx(sum(r.loss * r.num_examples for r in last) / 240, rel=1e-15)


def test_observer_sees_every_step_once_and_the_log_keeps_it(train_toy):
    reports = []
    result = train_toy(observe=lambda progress: reports.append(progress.report))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    logged = RunDirectory.open(result.run).read_steps()
    assert [(r.step, r.loss, r.checksum) for r in logged] == [(r.step, r.loss, r.checksum) for r in reports]


def test_an_observer_that_fails_ends_the_run_with_its_own_error(train_toy):
    def fail(_progress):
        raise RuntimeError("the observer's own")

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="the observer's own"):
        train_toy(observe=fail)
    assert threading.active_count() == threads


def test_training_works_outside_the_main_thread(train_toy):
    found = []
    thread = threading.Thread(target=lambda: found.append(train_toy("threaded").digest))
    thread.start()
    thread.join(timeout=60)
    assert found == [train_toy("plain").digest]


def test_scaled_learning_rate_is_told(train_toy, make_recipe, caplog):
    caplog.set_level(logging.INFO, "distbp")
    train_toy(recipe=make_recipe(schedule={"lr_scaling": "linear", "reference_batch_size": 50}))
    assert (
        "learning rate 0.1 x 2 = 0.2 (linear scaling: global_batch_size 100 / reference_batch_size 50)" in caplog.text
    )


@pytest.mark.parametrize(("warmup_steps", "is_said"), [(6, False), (7, True)])
def test_a_warmup_that_never_ends_is_said(train_toy, make_recipe, caplog, warmup_steps, is_said):
    train_toy(recipe=make_recipe(schedule={"warmup_steps": warmup_steps}))
    assert ("schedule.warmup_steps=7 is more than the 6 steps of the run" in caplog.text) is is_said
