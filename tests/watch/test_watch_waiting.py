"""Waiting for data is a part of a step's time, where there was any."""

from __future__ import annotations

import pytest

from distbp.watch.state import RunState, Steps, estimate_seconds_left


def test_waits_count_among_the_seconds_and_have_a_share(make_line):
    steps = Steps().after([make_line(step, data_s=0.03) for step in range(1, 101)])
    shares = {"computing": 0.175, "under way": 0.05, "commit": 0.025, "waiting for data": 0.75}
    assert steps.pace.shares == pytest.approx(shares)
    assert steps.pace.steps_per_second == pytest.approx(25)
    assert estimate_seconds_left(steps, 200) == pytest.approx(4)
    assert RunState("a", "runs/a", "running", steps=steps).to_json()["shares"] == pytest.approx(shares)


def test_a_wait_is_soon_forgotten_like_other_seconds(make_line):
    steps = Steps().after([make_line(1, data_s=100.0), *(make_line(step) for step in range(2, 20002))])
    assert steps.pace.steps_per_second == pytest.approx(100, rel=0.01)


def test_without_waits_nothing_is_said_of_them(make_line):
    steps = Steps().after([make_line(1), make_line(2, data_s=0.0)])
    assert list(steps.pace.shares) == ["computing", "under way", "commit"]


@pytest.mark.parametrize("data_s", [-1.0, "NaN", "Infinity", [], None])
def test_waits_that_are_no_seconds_are_damage(make_line, data_s):
    assert Steps().after([make_line(1), make_line(2, data_s=data_s)]).num_damaged == 1
