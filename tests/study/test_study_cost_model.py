"""The cost model: recovered from data it made, held against SciPy, and what it says at its ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from distbp.lab.cost_model import (
    CostModel,
    Measured,
    Setting,
    chance_of_slow_step,
    expected_largest,
    fit_cost_model,
    fit_nonnegative,
    harmonic,
    prediction_errors,
)
from distbp.lab.hyperbola import Hyperbola
from distbp.study.workers.extrapolation import (
    BANDWIDTHS,
    SERVER_CHOICES,
    WORKER_COUNTS,
    count_servers,
    find_knee,
    predict_straggling,
    predict_targets,
)

TRUTH = CostModel(
    compute=(4e-5, 5e-5, 1e-7, 1.3e-10, 2e-10), transfer=(5e-5, 1e-4, 2e-10), commit=(3e-5, 5e-10, 1e-9), spread=0.1
)


def make_settings() -> list[Setting]:
    return [
        Setting(workers, servers, n, batch, 32, cores=2)
        for n in (6_000, 300_000)
        for workers, servers in ((1, 1), (2, 1), (2, 2), (3, 3))
        for batch in (32, 128, 1024)
    ]


def test_a_model_is_recovered_from_what_it_predicts():
    measured = [Measured(s, TRUTH.predict(s)) for s in make_settings()]
    model = fit_cost_model(measured)
    unseen = [replace(s, num_parameters=2_000_000, workers=8, servers=4, batch_size=512) for s in make_settings()]
    errors = prediction_errors(model, [Measured(s, TRUTH.predict(s)) for s in unseen])
    assert max(map(abs, errors)) < 0.02
    assert model.transfer == pytest.approx(TRUTH.transfer, rel=1e-3)
    assert model.spread == pytest.approx(0.1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_nonnegative_fit_is_scipys(seed):
    rng = np.random.default_rng(seed)
    rows = rng.random((9, 3)) * np.array([1.0, 1e3, 1e-4])
    values = 0.1 + rng.random(9)
    expected, _ = nnls(rows / values[:, None], np.ones(9))
    found = np.array(fit_nonnegative(rows.tolist(), values))
    assert (found >= 0).all()
    np.testing.assert_allclose(rows @ found, rows @ expected, rtol=1e-6, atol=1e-9)


def test_one_server_gets_every_gradient_and_many_share_them():
    n, one = 1000, Setting(4, 1, 1000, 1024, 32)
    assert one.busiest_bytes == 2 * 4 * n * 3
    assert replace(one, servers=4).busiest_bytes == pytest.approx(2 * 4 * 2 * n * 3 / 4)
    assert replace(one, workers=1).busiest_bytes == 0


def test_workers_without_a_microbatch_take_no_part():
    setting = Setting(workers=8, servers=1, num_parameters=100, batch_size=64, microbatch_size=32, cores=4)
    assert (setting.active, setting.microbatches, setting.examples, setting.crowding) == (2, 1, 32, 1.0)
    assert replace(setting, batch_size=1024).crowding == 2.0


@given(workers=st.integers(1, 10_000))
def test_expected_largest_of_normals_grows_slowly(workers):
    assert 0 <= expected_largest(workers) <= math.sqrt(2 * math.log(max(2, workers)))


def test_expected_largest_by_drawing():
    draws = np.random.default_rng(0).standard_normal((20_000, 8)).max(axis=1)
    assert expected_largest(8) == pytest.approx(draws.mean(), rel=0.02)


def test_one_slow_machine_in_a_hundred_slows_63_percent_of_steps():
    assert chance_of_slow_step(0.01, 100) == pytest.approx(0.634, abs=5e-4)
    assert [round(s.chance, 3) for s in predict_straggling()][:3] == [0.01, 0.096, 0.634]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 1.5), (4, 25 / 12), (10_000, 9.787606)])
def test_harmonic_numbers(count, expected):
    assert harmonic(count) == pytest.approx(expected, rel=1e-6)


def test_largest_of_exponential_times_by_drawing():
    draws = np.random.default_rng(1).exponential(size=(20_000, 50)).max(axis=1)
    assert harmonic(50) == pytest.approx(draws.mean(), rel=0.02)


def test_links_only_make_transfers_slower():
    setting = Setting(8, 1, 1_000_000, 1024, 32)
    here, slow = TRUTH.predict(setting), TRUTH.on_network(1e9, 5e-5).predict(setting)
    assert slow.transfer_s > here.transfer_s
    assert slow.transfer_s - here.transfer_s == pytest.approx(setting.busiest_bytes * (8e-9 - 2e-10) + 1e-4)
    assert replace(slow, transfer_s=0.0) == replace(here, transfer_s=0.0)


def test_predictions_cover_every_choice_and_have_a_knee():
    found = predict_targets(TRUTH, Hyperbola(500, 2000), 1_126_410, 32, 60_000)
    assert len(found) == len(BANDWIDTHS) * len(SERVER_CHOICES) * len(WORKER_COUNTS)
    for choice in SERVER_CHOICES:
        chosen = [p for p in found if p.bits_per_s == 10e9 and p.server_choice == choice]
        knee = find_knee(chosen)
        assert chosen[0].seconds / (knee.workers * knee.seconds) >= 0.5
        assert 1 <= knee.workers < 10_000
    floor = 500 * min(p.step_s for p in found)
    assert all(p.seconds >= floor for p in found)


@given(workers=st.integers(1, 10_000), num_parameters=st.integers(1, 10**9))
def test_servers_are_never_more_than_workers_or_blocks(workers, num_parameters):
    for choice in SERVER_CHOICES:
        assert 1 <= count_servers(choice, workers, num_parameters) <= min(workers, -(-num_parameters // 65536))
