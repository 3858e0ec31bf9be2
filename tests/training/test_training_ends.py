"""How training ends early: with the best parameters, or because the numbers are not finite any more."""

from __future__ import annotations

import numpy as np
import pytest

from distbp import Placement, Recipe, load_run, train
from distbp.errors import DivergedError
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow

DIVERGING = {
    "data": {"source": "", "task": "regression", "scaling": "none"},
    "model": {"hidden": [], "loss": "squared_error"},
    "optimizer": {"learning_rate": 5.0, "momentum": 0.0},
    "epochs": 200,
}


@pytest.fixture
def overfitting(make_recipe):
    """A recipe whose validation loss soon rises again."""
    return make_recipe(
        model={"hidden": [64]},
        optimizer={"learning_rate": 0.5},
        epochs=60,
        early_stopping={"patience": 4},
    )


def test_early_stopping_ends_with_the_best_parameters(overfitting, train_toy):
    result = train_toy(recipe=overfitting, keep_checkpoints=1)
    assert result.stopped_early
    assert result.final_step == result.steps - 4 * 3
    assert load_run(result.run).step == load_run(result.run, step="best").step == result.final_step
    assert load_run(result.run, step=result.steps).digest != result.digest


def test_validation_numbers_after_early_stopping_are_those_of_the_best_parameters(overfitting, train_toy):
    seen = []
    result = train_toy(recipe=overfitting, observe=lambda progress: seen.append(progress.position.validation_loss))
    last = load_run(result.run, step=result.steps).evaluate()
    assert result.validation_loss == min(loss for loss in seen if loss is not None)
    assert result.validation_loss == load_run(result.run).evaluate().loss < last.loss


def test_early_stopping_does_not_depend_on_workers_or_interruptions(overfitting, train_toy, train_until):
    train_until(7, recipe=overfitting, name="split", workers=3)
    split, whole = train_toy("split", recipe=overfitting), train_toy("whole", recipe=overfitting)
    assert (split.digest, split.final_step, split.steps) == (whole.digest, whole.final_step, whole.steps)


def test_a_damaged_best_checkpoint_is_computed_again(overfitting, train_toy, train_until, tmp_path):
    whole = train_toy("whole", recipe=overfitting)
    train_until(whole.final_step + 2, recipe=overfitting, name="hurt", checkpoint_every_steps=2)
    state = tmp_path / "runs" / "hurt" / "checkpoints" / f"step-{whole.final_step:08}" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    assert train_toy("hurt", recipe=overfitting, checkpoint_every_steps=2).digest == whole.digest


def test_without_early_stopping_a_run_ends_with_its_last_parameters(overfitting, train_toy):
    recipe = overfitting.model_copy(update={"early_stopping": type(overfitting.early_stopping)()})
    result = train_toy(recipe=recipe)
    assert (result.stopped_early, result.final_step) == (False, result.steps)
    assert load_run(result.run, step="best").step < result.steps


@pytest.fixture
def diverging(make_recipe, toy_data):
    """Linear regression with steps so large that every one of them overshoots, until float32 ends."""
    return make_recipe(**{**DIVERGING, "data": {**DIVERGING["data"], "source": str(toy_data)}})


def test_training_that_diverges_keeps_a_finite_checkpoint_and_says_what_to_try(diverging, train_toy, tmp_path):
    with pytest.raises(DivergedError, match=r"step \d+.*checkpoint of step \d+ is kept; try a learning rate below 5"):
        train_toy(recipe=diverging, checkpoint_every_steps=1)
    report = load_run(str(tmp_path / "runs" / "run")).evaluate()
    assert report.num_examples == 60


def test_training_that_diverged_diverges_again_at_the_same_step(diverging, train_toy):
    errors = []
    for _ in range(2):
        with pytest.raises(DivergedError) as caught:
            train_toy(recipe=diverging, checkpoint_every_steps=1)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_training_that_diverges_does_so_at_the_same_step_for_any_workers(diverging, train_toy, tmp_path):
    logs = []
    for workers in (1, 3):
        with pytest.raises(DivergedError):
            train_toy(f"run-{workers}", recipe=diverging, workers=workers)
        logs.append(
            [record.checksum for record in RunDirectory.open(str(tmp_path / f"runs/run-{workers}")).read_steps()]
        )
    assert logs[0] == logs[1] != []


def test_a_diverged_run_is_not_finished(diverging, train_toy, tmp_path):
    with pytest.raises(DivergedError):
        train_toy(recipe=diverging)
    assert RunDirectory.open(str(tmp_path / "runs" / "run")).read_result() is None


@pytest.mark.parametrize("rate", [0.1, 1e-3])
def test_divergence_over_large_targets_names_them_at_every_learning_rate(tmp_path, rate):
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(300, 2))
    np.savez(tmp_path / "d.npz", x=x, y=2e5 + x @ [5e4, 1e4])
    values = {"data": {"source": str(tmp_path / "d.npz")}, "model": {"loss": "squared_error"}, "epochs": 30}
    recipe = Recipe.model_validate({**values, "optimizer": {"learning_rate": rate}})
    with pytest.raises(DivergedError, match=r"diverged: .*the targets reach .*divide by 100000"):
        train(recipe, Placement(storage=str(tmp_path / "runs"), workers=1))
