"""verify(): are two runs the same bytes, and if not, where do they part?"""

from __future__ import annotations

import shutil

import pytest

from distbp import verify
from distbp.errors import CheckpointError


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
