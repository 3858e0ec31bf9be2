"""Runs that are stopped, resumed, finished, mixed up: the right one goes on, with the bytes of an undisturbed run."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path

import numpy as np
import pytest

from distbp import train
from distbp.errors import CheckpointError, InterruptedRunError, NumericsError, TerminatedRunError
from distbp.run import CheckpointStore, RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "run"


def refuse(_progress) -> None:
    pytest.fail("a step was trained")


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_run_stopped_and_resumed_at_any_step_ends_like_an_undisturbed_one(step, train_toy, train_until, run_dir):
    train_until(step, workers=2)
    assert CheckpointStore(RunDirectory.open(str(run_dir)), 1).list_steps()[-1] == step
    resumed, undisturbed = train_toy(resume="must", workers=3), train_toy("whole")
    for field in ("digest", "train_loss", "validation_loss", "validation_accuracy", "steps", "epochs"):
        assert getattr(resumed, field) == getattr(undisturbed, field), field


def test_every_way_to_stop_a_run_along_the_way_ends_like_an_undisturbed_one(train_toy, train_until):
    """All 32 sets of steps after which a run of 6 steps can be stopped."""
    digests = set()
    for number in range(32):
        for step in (step for step in range(1, 6) if number >> (step - 1) & 1):
            train_until(step, name=f"run-{number}", checkpoint_every_steps=2)
        digests.add(train_toy(f"run-{number}").digest)
    assert len(digests) == 1


def test_the_log_of_a_split_run_is_that_of_an_undisturbed_one(train_toy, train_until, run_dir):
    train_until(2)
    train_until(5)
    train_toy()
    whole = RunDirectory.open(train_toy("whole").run).read_steps()
    split = RunDirectory.open(str(run_dir)).read_steps()
    assert [(r.step, r.loss, r.checksum) for r in split] == [(r.step, r.loss, r.checksum) for r in whole]


def test_a_run_that_lost_its_newest_checkpoint_goes_on_from_the_one_before(train_toy, train_until, run_dir):
    train_until(5, checkpoint_every_steps=2)
    (run_dir / "checkpoints" / "step-00000005" / "state.safetensors").write_bytes(b"torn")
    assert train_toy().digest == train_toy("whole").digest


def test_sigint_and_sigterm_end_a_run_with_their_own_errors(train_toy):
    for number, error in ((signal.SIGINT, InterruptedRunError), (signal.SIGTERM, TerminatedRunError)):
        with pytest.raises(InterruptedRunError) as caught:
            train_toy(observe=lambda _, number=number: signal.raise_signal(number))
        assert type(caught.value) is error


def test_signal_handlers_are_those_of_before_when_training_has_ended(train_toy, train_until):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train_until(2)
    train_toy()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stop_asked_for_in_the_last_step_finds_the_run_finished(train_toy, stop_at):
    assert train_toy(observe=stop_at(6)).steps == 6


def test_a_finished_run_is_not_trained_again(train_toy):
    result = train_toy()
    assert train_toy(observe=refuse, workers=3) == result


def test_without_a_name_an_unfinished_run_goes_on_and_a_finished_one_is_left_alone(
    make_recipe, make_placement, stop_at
):
    recipe, placement = make_recipe(), make_placement()
    with pytest.raises(TerminatedRunError):
        train(recipe, placement, observe=stop_at(2))
    resumed, fresh = train(recipe, placement), train(recipe, placement)
    assert Path(fresh.run).name == f"{Path(resumed.run).name}-2"
    assert RunDirectory.list_names(placement.storage) == [Path(resumed.run).name, Path(fresh.run).name]
    assert fresh.digest == resumed.digest


def test_resume_never_refuses_an_existing_run(train_toy, train_until):
    train_until(2)
    with pytest.raises(CheckpointError, match=r"runs/run' exists; choose another --name"):
        train_toy(resume="never", observe=refuse)


def test_resume_must_refuses_a_new_run(train_toy, run_dir):
    with pytest.raises(CheckpointError, match="there is no run 'run'"):
        train_toy(resume="must", observe=refuse)
    assert not run_dir.exists()


def test_another_recipe_is_refused_naming_what_differs(train_toy, train_until, make_recipe):
    train_until(2)
    with pytest.raises(CheckpointError, match=r"\(recipe\.optimizer\.learning_rate was 0\.1 and is now 0\.2\)"):
        train_toy(
            recipe=make_recipe(optimizer={**make_recipe().optimizer.model_dump(), "learning_rate": 0.2}),
            observe=refuse,
        )


def test_another_place_of_the_data_is_no_reason_to_refuse(train_toy, train_until, make_recipe, toy_data, tmp_path):
    train_until(2)
    copy = tmp_path / "copy.npz"
    copy.write_bytes(toy_data.read_bytes())
    with pytest.raises(CheckpointError, match=r"another recipe \(recipe\.seed was 0 and is now 1\)"):
        train_toy(recipe=make_recipe(data={"source": str(copy)}, seed=1), observe=refuse)


def test_another_placement_is_welcome(train_toy, train_until):
    train_until(2, workers=1, checkpoint_every_steps=1)
    assert train_toy(workers=4, checkpoint_every_steps=50, keep_checkpoints=1).steps == 6


def test_changed_data_are_refused(train_toy, train_until, make_recipe, toy_data, tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(toy_data.read_bytes())
    recipe = make_recipe(data={"source": str(copy)})
    train_until(2, recipe=recipe)
    arrays = dict(np.load(copy))
    arrays["x"][7] += 1
    np.savez(copy, **arrays)
    with pytest.raises(CheckpointError, match=r"the training data in '.*copy\.npz' are not those that the run started"):
        train_toy(recipe=recipe, observe=refuse)


def test_a_run_of_other_floating_point_results_is_refused(train_toy, train_until, run_dir):
    train_until(2)
    pretend_other_numerics(run_dir)
    with pytest.raises(NumericsError, match=r"then NumPy 1\.2\.3 with Z80, now NumPy .*OPENBLAS_CORETYPE"):
        train_toy(observe=refuse)


def test_a_run_of_other_floating_point_results_goes_on_with_a_warning_if_asked(train_toy, train_until, run_dir, caplog):
    train_until(2)
    pretend_other_numerics(run_dir)
    caplog.set_level(logging.WARNING, "distbp")
    assert train_toy(on_numerics_mismatch="warn").steps == 6
    assert "computes other floating-point results" in caplog.text


def pretend_other_numerics(run_dir: Path) -> None:
    numerics = {"numpy": "1.2.3", "blas": [{"architecture": "Z80"}], "probe": "0" * 64}
    (run_dir / "numerics.json").write_text(json.dumps(numerics))
