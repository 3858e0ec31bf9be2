"""Rounds in the advice: weighed when asked for, told apart from the advice, and never where nothing was measured."""

from __future__ import annotations

import pytest

from distbp.advise.advice import Critical
from distbp.advise.evidence import Evidence, PilotRun
from distbp.advise.rounds import WeighedRounds, describe_rounds, weigh_rounds
from distbp.config import Recipe
from distbp.lab.cost_model import Measured, Setting, StepParts

RECIPE = Recipe.model_validate({"model": {"hidden": [16]}, "epochs": 5})
STEP = StepParts(compute_s=0.001, waiting_s=0.001, transfer_s=0.097, commit_s=0.001)


def evidence(goal: float | None = 0.1, workers: int = 2) -> Evidence:
    measured = Measured(Setting(workers, workers, 1210, 64, 16), STEP)
    pilot = PilotRun(goal, 60, 0.1, ((0, 50.0),), 60)
    return Evidence(pilot, (), Critical(50.0, 1.0), (("ray", measured),), 1.0)


def test_a_step_in_rounds_costs_its_computing_and_its_share_of_the_rest():
    found = weigh_rounds(RECIPE, evidence(), budget_s=60)
    assert found is not None
    assert (found.replicas, found.batch_size) == (2, 64)
    assert found.steps in (5, 20)
    assert found.seconds == pytest.approx(found.num_steps * (0.002 + 0.098 / found.steps))


@pytest.mark.parametrize("fields", [{"goal": None}, {"workers": 1}, {"goal": 1e-9}])
def test_without_a_goal_without_workers_on_ray_or_without_reaching_it_nothing_is_said_to_pay(fields):
    assert weigh_rounds(RECIPE, evidence(**fields), budget_s=60) is None
    assert "none that was tried" in describe_rounds(None, 1.0)


def test_what_is_told_says_that_the_numbers_change():
    weighed = WeighedRounds(20, 4, 0.7, 0.9, 512, 100, 1.0)
    told = describe_rounds(weighed, 3.0)
    assert "3 times faster" in told
    assert "CHANGE THE NUMBERS" in told
    assert "do not pay here" in describe_rounds(weighed, 1.0)
