"""Learning rates against values written by hand."""

from __future__ import annotations

import math

import pytest

from distbp.config import Recipe
from distbp.nn.schedules import batch_scale, learning_rate


def rates(schedule: dict, num_steps: int, steps_per_epoch: int = 2, epochs: int = 4, rate: float = 0.8) -> list[float]:
    recipe = Recipe.model_validate({"schedule": schedule, "optimizer": {"learning_rate": rate}, "epochs": epochs})
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(num_steps)]


def test_constant_rate():
    assert rates({"kind": "constant"}, 3) == [0.8, 0.8, 0.8]


def test_warmup_reaches_the_full_rate_with_its_last_step():
    assert rates({"warmup_steps": 4}, 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_step_decays_every_so_many_epochs():
    schedule = {"kind": "step", "decay_epochs": 2, "decay_factor": 0.5}
    assert rates(schedule, 9) == pytest.approx([0.8] * 4 + [0.4] * 4 + [0.2])


def test_step_counts_its_epochs_from_the_beginning_of_the_run():
    schedule = {"kind": "step", "decay_epochs": 1, "decay_factor": 0.5, "warmup_steps": 1}
    assert rates(schedule, 4) == pytest.approx([0.8, 0.8, 0.4, 0.4])


def test_cosine_falls_from_the_rate_to_the_final_fraction():
    found = rates({"kind": "cosine", "final_fraction": 0.25}, 5, steps_per_epoch=5, epochs=1)
    half = math.sqrt(0.5)
    expected = [1.0, 0.25 + 0.75 * (1 + half) / 2, 0.25 + 0.75 / 2, 0.25 + 0.75 * (1 - half) / 2, 0.25]
    assert found == pytest.approx([0.8 * fraction for fraction in expected])


def test_cosine_begins_after_the_warmup():
    found = rates({"kind": "cosine", "warmup_steps": 2}, 5, steps_per_epoch=5, epochs=1)
    assert found == pytest.approx([0.4, 0.8, 0.8, 0.4, 0.0])


@pytest.mark.parametrize(("scaling", "expected"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_rate_scales_with_the_batch_as_asked(scaling, expected):
    schedule = {"lr_scaling": scaling, "reference_batch_size": 64}
    recipe = Recipe.model_validate({"schedule": schedule, "global_batch_size": 256})
    assert batch_scale(recipe) == expected
    assert learning_rate(recipe, 0, 10) == pytest.approx(0.1 * expected)


def test_nothing_is_scaled_unless_asked():
    assert batch_scale(Recipe.model_validate({"global_batch_size": 1024})) == 1.0
