"""Curves, slopes and the hyperbola, against hand calculations and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from distbp.lab.curves import (
    CurvePoint,
    choose_batch_sizes,
    choose_goals,
    first_below,
    log_log_slope,
    next_evaluation,
)
from distbp.lab.hyperbola import Hyperbola, fit_hyperbola
from distbp.lab.search import EFFECTIVE_RATES, NUM_EXPLORING, Candidate, guess, propose

pytestmark = pytest.mark.slow

SIZES = [2.0**power for power in range(13)]
positive = st.floats(min_value=1.0, max_value=1e5)


@given(min_steps=positive, critical=positive)
def test_fit_finds_the_hyperbola_that_made_the_points(min_steps, critical):
    truth = Hyperbola(min_steps, critical)
    fit = fit_hyperbola(SIZES, [truth.steps(size) for size in SIZES])
    assert fit.curve.critical_batch_size == pytest.approx(critical, rel=1e-3)
    assert fit.curve.min_steps == pytest.approx(min_steps, rel=1e-3)
    assert fit.residual < 1e-4


@given(min_steps=positive, critical=positive, size=positive)
def test_hyperbola_satisfies_its_equation(min_steps, critical, size):
    curve = Hyperbola(min_steps, critical)
    steps, examples = curve.steps(size), curve.examples(size)
    assert (steps / curve.min_steps - 1) * (examples / curve.min_examples - 1) == pytest.approx(1, rel=1e-6)


def test_fit_of_noisy_points_is_scipys():
    rng = np.random.default_rng(0)
    steps = Hyperbola(40, 90).steps(np.array(SIZES)) * np.exp(0.2 * rng.standard_normal(len(SIZES)))
    fit = fit_hyperbola(SIZES, steps)

    def log_steps(size, log_min_steps, log_critical):
        return log_min_steps + np.log1p(np.exp(log_critical) / size)

    (log_min_steps, log_critical), _ = curve_fit(log_steps, SIZES, np.log(steps), p0=(3, 4))
    misses = np.log(steps) - log_steps(np.array(SIZES), log_min_steps, log_critical)
    assert fit.curve.min_steps == pytest.approx(math.exp(log_min_steps), rel=1e-4)
    assert fit.curve.critical_batch_size == pytest.approx(math.exp(log_critical), rel=1e-4)
    assert fit.residual == pytest.approx(np.sqrt(np.mean(misses**2)), rel=1e-6)


def test_two_points_are_not_fitted():
    assert fit_hyperbola([1, 2], [10, 5]) is None


def test_slopes():
    assert log_log_slope([1, 2, 4], [80, 40, 20]) == pytest.approx(-1)
    assert log_log_slope([1, 2, 4], [80, 80, 80]) == pytest.approx(0, abs=1e-12)
    curve = Hyperbola(10, 100)
    assert log_log_slope([99.9, 100.1], [curve.steps(99.9), curve.steps(100.1)]) == pytest.approx(-0.5, abs=1e-3)


def test_a_goal_is_reached_at_the_first_error_strictly_below_it():
    curve = [CurvePoint(0, 2.0, 0.9), CurvePoint(1, 1.0, 0.1), CurvePoint(2, 0.9, 0.09), CurvePoint(3, 0.9, 0.2)]
    assert first_below(curve, 0.1) == 2
    assert first_below(curve, 0.95) == 0
    assert first_below(curve, 0.05) is None


@given(step=st.integers(0, 10**7))
def test_evaluations_are_at_most_four_percent_apart(step):
    following = next_evaluation(step)
    assert step < following <= max(step + 1, 1.04 * step + 1)


@given(reached=st.floats(0, 0.5), initial=st.floats(0.6, 1.0))
def test_goals_fall_and_lie_between_start_and_reach(reached, initial):
    goals = choose_goals(initial, reached)
    assert list(goals) == sorted(goals, reverse=True)
    assert all(reached <= goal * 1.06 and goal < initial for goal in goals)


@given(num_examples=st.integers(1, 10**6))
def test_batch_sizes_double_and_end_with_everything(num_examples):
    sizes = choose_batch_sizes(num_examples)
    assert sizes[-1] == num_examples
    assert list(sizes) == sorted(set(sizes))
    assert all(size & (size - 1) == 0 for size in sizes[:-1])


def test_search_is_seeded_and_covers_the_whole_range():
    explored = [propose(3, index, 64, None) for index in range(NUM_EXPLORING)]
    assert explored == [propose(3, index, 64, None) for index in range(NUM_EXPLORING)]
    assert explored != [propose(4, index, 64, None) for index in range(NUM_EXPLORING)]
    logs = np.sort(np.log([candidate.effective_rate for candidate in explored]))
    span = math.log(EFFECTIVE_RATES[1] / EFFECTIVE_RATES[0])
    assert np.diff(logs).max() < 0.3 * span
    assert logs[-1] - logs[0] > 0.7 * span
    assert all(0 <= candidate.momentum <= 0.99 for candidate in explored)


@given(batch_size=st.integers(1, 10**6))
def test_the_first_guess_lies_in_the_range(batch_size):
    first = guess(batch_size)
    assert EFFECTIVE_RATES[0] <= first.effective_rate <= EFFECTIVE_RATES[1]
    assert first.momentum == 0.9


def test_refinement_stays_near_the_best():
    best = Candidate(0.1, 0.9)
    for index in range(NUM_EXPLORING, 40):
        near = propose(0, index, 64, best)
        assert 1 / 3.1 < near.effective_rate / best.effective_rate < 3.1
        assert 0 <= near.momentum < 1
