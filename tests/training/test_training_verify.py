"""verify(): are two runs the same bytes, and if not, where do they part?"""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from distbp import verify
from distbp.__main__ import main
from distbp.errors import CheckpointError

pytestmark = pytest.mark.slow


def test_runs_of_one_recipe_are_the_same(train_toy):
    a, b = train_toy("a", workers=1), train_toy("b", workers=5)
    verdict = verify(a.run, b.run)
    assert (verdict.same, verdict.first_difference, verdict.same_recipe, verdict.steps) == (True, None, True, 6)
    assert verdict.digest_a == verdict.digest_b == a.digest


def test_the_first_step_that_differs_is_named(train_toy, make_recipe):
    """The learning rates are equal in the first epoch, steps 1 to 3, and differ from step 4 on."""
    decaying = make_recipe(schedule={"kind": "step", "decay_epochs": 1, "decay_factor": 0.5})
    verdict = verify(train_toy("a").run, train_toy("b", recipe=decaying).run)
    assert (verdict.same, verdict.first_difference, verdict.same_recipe) == (False, 4, False)


def test_runs_of_different_length_part_nowhere_in_their_common_steps(train_toy, make_recipe):
    verdict = verify(train_toy("a").run, train_toy("b", recipe=make_recipe(epochs=3)).run)
    assert (verdict.same, verdict.first_difference, verdict.steps) == (False, None, 6)


def test_a_copied_run_is_the_same(train_toy, tmp_path):
    run = train_toy().run
    copy = shutil.copytree(run, tmp_path / "elsewhere")
    assert verify(run, str(copy)).same


def test_an_unfinished_run_is_refused(train_toy, train_until, tmp_path):
    train_until(2, name="unfinished")
    with pytest.raises(CheckpointError, match="unfinished' has not finished; resume it"):
        verify(train_toy().run, str(tmp_path / "runs" / "unfinished"))


def test_runs_whose_checkpoints_are_gone_are_not_called_the_same(train_toy, tmp_path):
    a, b = train_toy("a").run, train_toy("b").run
    shutil.rmtree(tmp_path / "runs" / "b" / "checkpoints")
    with pytest.raises(CheckpointError, match=r"runs/b' has no checkpoint of step 6; it has: none"):
        verify(a, b)


def test_runs_whose_checkpoints_were_overwritten_are_not_called_the_same(train_toy, tmp_path):
    a, b = train_toy("a").run, train_toy("b").run
    state = tmp_path / "runs" / "a" / "checkpoints" / "step-00000006" / "state.safetensors"
    state.write_bytes(bytes(state.stat().st_size))
    with pytest.raises(CheckpointError, match=r"step-00000006' is damaged: state.safetensors was changed"):
        verify(a, b)


def test_a_result_of_another_run_is_not_believed(train_toy, make_recipe, tmp_path):
    a, b = train_toy("a").run, train_toy("b", recipe=make_recipe(seed=1)).run
    shutil.copy(tmp_path / "runs" / "a" / "result.json", tmp_path / "runs" / "b" / "result.json")
    with pytest.raises(CheckpointError, match=r"result\.json of '.*runs/b' tells of parameters .* of another run"):
        verify(a, b)


def test_checkpoints_of_another_recipe_are_not_believed(train_toy, make_recipe, tmp_path):
    a, b = train_toy("a").run, train_toy("b", recipe=make_recipe(seed=1)).run
    for part in ("checkpoints", "result.json"):
        theirs, ours = tmp_path / "runs" / "a" / part, tmp_path / "runs" / "b" / part
        if theirs.is_dir():
            shutil.rmtree(ours)
            shutil.copytree(theirs, ours)
        else:
            shutil.copy(theirs, ours)
    with pytest.raises(CheckpointError, match=r"belongs to another recipe than '.*runs/b/config\.yaml'"):
        verify(a, b)


def test_steps_that_differ_are_told_although_the_ends_are_the_same(train_toy, tmp_path, capfd):
    a, b = train_toy("a").run, train_toy("b").run
    path = tmp_path / "runs" / "b" / "steps.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[3]["checksum"] = "0" * 16
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    verdict = verify(a, b)
    assert (verdict.same, verdict.first_difference, verdict.digest_a) == (False, 4, verdict.digest_b)
    assert main(["verify", a, b]) == 9
    assert "end with the same bytes, but not by the same steps: they part at step 4" in capfd.readouterr().err


def test_runs_of_a_model_of_the_users_own_are_compared_without_its_module(make_recipe, train_toy, monkeypatch):
    recipe = make_recipe(model={"function": "own_model:build", "options": {"spread": 0.1}})
    runs = [train_toy(name, recipe=recipe).run for name in ("a", "b")]
    monkeypatch.setitem(sys.modules, "own_model", None)  # importing it fails
    assert verify(*runs).same
