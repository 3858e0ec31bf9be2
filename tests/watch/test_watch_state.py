"""What is known of a run, from lines of every kind: curves, pace, members, damage."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.watch.curve import MAX_STRETCHES, Curve
from distbp.watch.plot import draw_bar, draw_curves
from distbp.watch.state import Happened, Steps, estimate_seconds_left, judge_ending

pytestmark = pytest.mark.slow


def test_a_curve_is_the_means_over_equal_stretches_and_stays_small():
    losses = np.random.default_rng(0).random(5000)
    curve = Curve()
    for start in range(0, 5000, 7):  # in pieces, as they come
        curve = curve.extended((step + 1, losses[step]) for step in range(start, min(start + 7, 5000)))
    assert len(curve.stretches) <= MAX_STRETCHES
    expected = [losses[start : start + curve.width].mean() for start in range(0, 5000, curve.width)]
    assert [y for _, y in curve.points] == pytest.approx(expected)
    assert curve.points[0][0] == (1 + curve.width) / 2
    assert len(curve.thinned(50).stretches) <= 50


def test_a_curve_forgets_what_the_run_went_back_behind():
    curve = Curve().extended((step, 1.0) for step in range(1, 101)).extended([(41, 2.0)])
    assert [x for x, _ in curve.points] == list(range(1, 42))


def test_losses_that_are_not_finite_are_no_points():
    curve = Curve().extended([(1, 1.0), (2, math.nan), (3, math.inf)])
    assert curve.points == [(1, 1.0)]


def test_pace_is_that_of_the_newest_steps(make_line):
    slow = [make_line(step, compute_s=0.097) for step in range(1, 2001)]
    quick = [make_line(step) for step in range(2001, 22001)]
    steps = Steps().after([line[:-1] for line in slow])
    assert steps.pace.steps_per_second == pytest.approx(10)
    assert estimate_seconds_left(steps, 2100) == pytest.approx(10)
    steps = steps.after([line[:-1] for line in quick])
    assert steps.pace.steps_per_second == pytest.approx(100, rel=0.01)
    assert steps.pace.shares == pytest.approx({"computing": 0.7, "under way": 0.2, "commit": 0.1}, rel=0.01)


def test_evenness_is_the_mean_computing_time_over_the_slowest(make_line):
    lines = [make_line(step, compute_s=0.01, mean_compute_s=0.006) for step in range(1, 50)]
    assert Steps().after(lines).pace.evenness == pytest.approx(0.6)


def test_old_logs_without_the_number_of_steps_show_the_length_of_an_epoch(make_line):
    assert Steps().after([make_line(step) for step in range(1, 11)]).steps_per_epoch is None
    assert Steps().after([make_line(step) for step in range(1, 12)]).steps_per_epoch == 10


def test_members_are_those_who_joined_and_were_not_lost(make_event):
    events = [
        make_event("started", step=0, num_steps=100),
        make_event("joined", step=0, text="worker on node n1, pid 11"),
        make_event("joined", step=0, text="worker on node n2, pid 12"),
        make_event("formed", step=0, workers=2),
        make_event("shards", step=5, text="worker 1 (node n2, pid 12) takes 3.0 times as long as the fastest; "
                   "microbatches of workers 0 to 1 are now 6, 2"),
    ]  # fmt: skip
    known = Happened().after(events)
    assert (known.members, known.division, known.num_workers, known.num_steps) == (
        ("n1 pid 11", "n2 pid 12"),
        (6, 2),
        2,
        100,
    )
    lost = make_event("lost", step=9, reason="lost worker 1 (node n2, pid 12)", left=1, action="shrink")
    known = known.after([lost])
    assert (known.members, known.is_formed, known.happenings[-1].is_trouble) == (("n1 pid 11",), False, True)
    known = known.after([make_event("formed", step=9, workers=1)])
    assert (known.is_formed, known.num_workers, known.division) == (True, 1, None)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ("TerminatedRunError", "stopped"),
        ("InterruptedRunError", "stopped"),
        ("DivergedError", "diverged"),
        ("WorkersLostError", "failed"),
    ],
)
def test_an_error_says_in_which_state_a_run_ended(make_event, error, state):
    known = Happened().after([make_event("ended", error=error, reason="it happened")])
    assert judge_ending(known.ending) == state
    assert known.after([make_event("started", step=5)]).ending is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab7 \x1b\u202e", max_size=9) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "step"]), inner, max_size=2),
    max_leaves=5,
)
kinds = st.sampled_from(
    ["started", "joined", "formed", "lost", "shards", "evaluated", "checkpoint", "ended", "finished", "recovered", ""]
)
keys = st.sampled_from(["time", "step", "workers", "text", "reason", "left", "action", "loss", "accuracy", "seconds"])


@given(st.lists(st.tuples(kinds, st.dictionaries(keys, json_values)), max_size=8))
def test_events_of_any_kind_are_taken_in_or_counted_as_damaged(events):
    lines = [json.dumps({"kind": kind, **fields}).encode() for kind, fields in events]
    known = Happened().after([*lines, b"no json", b"[]"])
    assert 2 <= known.num_damaged <= 2 + len(events)


@given(st.dictionaries(st.sampled_from(["step", "loss", "compute_s", "wait_s", "mean_compute_s"]), json_values))
def test_step_lines_of_any_kind_are_taken_in_or_counted_as_damaged(fields):
    values = {"step": 1, "epoch": 0, "loss": 1.0, "num_examples": 1, "compute_s": 1, "wait_s": 0, "commit_s": 0}
    known = Steps().after([json.dumps({**values, "checksum": "", **fields}).encode()])
    assert known.num_damaged == (known.last is None)


def test_a_falling_curve_in_braille_fills_the_diagonal():
    lines = ["".join(text for text, _ in line) for line in draw_curves([[(0, 1.0), (10, 0.0)]], 15, 3)]
    labels, plot = [line[:9].strip() for line in lines], [line[9:] for line in lines]
    assert labels == ["1.00", "", "0"]
    assert [[cell != " " for cell in line] for line in plot] == [
        [True, True, False, False, False, False],
        [False, False, True, True, False, False],
        [False, False, False, False, True, True],
    ]


def test_a_bar_is_filled_to_an_eighth_of_a_cell():
    assert [draw_bar(share, 4) for share in (0.5, 1.7, 0.03)] == ["██··", "████", "▏···"]
