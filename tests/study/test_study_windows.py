"""Windows over blocks sorted by class: the order of the product, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.config import Recipe
from distbp.study.order.windows import (
    WindowFinding,
    WindowResult,
    WindowTrial,
    gather_windows,
    list_window_trials,
    run_window_trial,
)

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [16]}, "epochs": 3, "global_batch_size": 50, "microbatch_size": 10})


def test_the_same_trial_has_the_same_error_and_other_windows_another_walk():
    narrow = WindowTrial(RECIPE, 1, 0)
    assert run_window_trial(narrow) == run_window_trial(narrow)
    errors = {run_window_trial(WindowTrial(RECIPE, window, 0)).error for window in (None, 1, 60)}
    assert len(errors) > 1
    assert all(0 < error < 0.9 for error in errors)


def test_windows_over_all_blocks_learn_as_well_as_the_full_shuffle():
    trials = [WindowTrial(RECIPE, window, seed) for window in (None, 60) for seed in range(4)]
    whole, wide = gather_windows(trials, list(map(run_window_trial, trials)))
    spread = np.std([*whole.errors, *wide.errors])
    assert abs(whole.mean - wide.mean) < 4 * spread / 2


def test_runs_that_diverged_are_left_out():
    trials = list_window_trials(RECIPE)
    results = [WindowResult(None if trial.window_blocks == 1 else 0.25) for trial in trials]
    found = gather_windows(trials, results)
    assert [window.window_blocks for window in found] == [None, 2, 4, 8]
    assert found[0] == WindowFinding(None, (0.25, 0.25, 0.25))
