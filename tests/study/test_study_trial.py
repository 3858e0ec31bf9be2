"""Trials are the product's own training, end when they should, and say why."""

from __future__ import annotations

import pytest

from distbp import Placement, train
from distbp.config import Recipe
from distbp.lab.curves import CurvePoint
from distbp.lab.timing import (
    count_epoch,
    median_seconds,
    time_loop,
    time_step,
)
from distbp.lab.trial import Trial, is_stuck, plan_for, reseed, run_trial, with_batch
from distbp.lab.walk import Walk, choose_steps, take_walk
from distbp.study.batch_size.scaling_rules import FACTOR, NAMES, choose_base

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [16]}, "epochs": 2})


@pytest.mark.parametrize("batch_size", [128, 4096], ids=["", "larger than the data"])
def test_a_trial_ends_with_the_numbers_of_a_training_run(batch_size, tmp_path):
    recipe = Recipe.model_validate({"model": {"hidden": [16]}, "epochs": 2, "global_batch_size": batch_size})
    result = train(recipe, Placement(workers=3, storage=str(tmp_path)))
    trial = run_trial(Trial(recipe, result.steps))
    assert (trial.ended, trial.steps) == ("cut", result.steps)
    assert trial.curve[-1] == CurvePoint(result.steps, result.validation_loss, 1 - result.validation_accuracy)


def test_a_trial_ends_at_the_first_error_below_its_lowest_goal():
    longest = run_trial(Trial(RECIPE, 46))
    goal = 0.3
    result = run_trial(Trial(RECIPE, 46, goals=(0.6, goal)))
    assert result.ended == "goal"
    assert result.curve == longest.curve[: len(result.curve)]
    assert result.curve[-1].error < goal <= min(point.error for point in result.curve[:-1])


def test_a_trial_that_diverges_says_so():
    wild = with_batch(RECIPE, 64, 1e6, 0.99)
    result = run_trial(Trial(wild, 500, goals=(0.01,), patience=100))
    assert result.ended in ("diverged", "stuck")
    assert result.steps < 500


def test_a_trial_that_learns_nothing_is_given_up():
    result = run_trial(Trial(with_batch(RECIPE, 64, 1e-9, 0.0), 200, goals=(0.01,), patience=20))
    assert result.ended == "stuck"
    assert 20 <= result.steps < 22


def test_what_is_stuck():
    assert is_stuck([CurvePoint(0, 2, 0.9), CurvePoint(9, 2, 0.85)])
    assert not is_stuck([CurvePoint(0, 2, 0.9), CurvePoint(5, 2, 0.5), CurvePoint(9, 2, 0.9)])


def test_seeds_change_initial_weights_and_order_but_not_the_data():
    plan = plan_for(RECIPE)
    other = reseed(plan, 5, 6)
    assert other.worker.train is plan.worker.train
    assert other.worker.seed == 6
    assert (other.initial_state().parameters != plan.initial_state().parameters).any()
    assert (reseed(plan, 0, 6).initial_state().parameters == plan.initial_state().parameters).all()
    assert run_trial(Trial(RECIPE, 5, seed=1)) != run_trial(Trial(RECIPE, 5, seed=2))


def test_another_batch_keeps_everything_but_optimizer_schedule_and_sizes():
    changed = with_batch(RECIPE, 1000, 0.3, 0.5)
    assert (changed.global_batch_size, changed.microbatch_size) == (1000, 256)
    assert (changed.optimizer.learning_rate, changed.optimizer.momentum) == (0.3, 0.5)
    assert changed.model == RECIPE.model
    assert Recipe.model_validate(changed.model_dump()) == changed


@pytest.mark.parametrize("batch_size", [1, 14, 15, 100, 1438])
def test_every_example_is_in_exactly_one_batch_of_an_epoch(batch_size):
    found = count_epoch(with_batch(RECIPE, batch_size, 0.1, 0.0))
    assert (found.fewest, found.most) == (1, 1)
    assert found.num_batches == -(-1438 // batch_size)


def test_a_full_batch_step_takes_longer_than_one_of_a_hundredth():
    wide = Recipe.model_validate({"model": {"hidden": [512]}})  # so that a busy machine does not decide
    small, full = (time_step(with_batch(wide, size, 1e-3, 0.9)) for size in (15, 1438))
    assert 0 < small.step_s < full.step_s


def test_a_matrix_is_faster_than_a_loop_over_its_examples():
    found = time_loop(with_batch(RECIPE, 100, 0.1, 0.0))
    assert found.batch_size == 100
    assert found.factor > 2


def test_median_seconds_calls_and_divides():
    calls = []
    assert median_seconds(lambda: calls.append(1), num_rounds=3) > 0
    assert len(calls) > 3


def test_a_walk_reads_where_it_was_told_and_is_repeatable():
    walk = Walk(with_batch(RECIPE, 32, 0.05, 0.5), (0, 3, 9), (1, 64), 4)
    found = take_walk(walk)
    assert [reading.step for reading in found.readings] == [0, 3, 9]
    assert [c.batch_size for c in found.readings[0].cosines] == [1, 64]
    assert found == take_walk(walk)
    curve = {p.step: p.error for p in run_trial(Trial(walk.recipe, 9)).curve}
    assert [reading.error for reading in found.readings] == [curve[0], curve[3], curve[9]]


def test_steps_of_a_walk_are_spread_on_a_logarithmic_scale():
    assert choose_steps(1000, 4) == (0, 1, 10, 100, 1000)
    assert choose_steps(3, 9)[-1] == 3


@pytest.mark.parametrize("num_examples", [300, 1438, 60_000, 10**6])
def test_the_small_batch_of_the_scaling_rules_leaves_steps_for_the_large_one(num_examples):
    base = choose_base(num_examples)
    assert base & (base - 1) == 0
    assert base <= 64
    assert num_examples // (FACTOR * base) >= (8 if num_examples > 300 else 1)
    assert len(NAMES) == 5
