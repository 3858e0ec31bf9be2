"""A short sitting of chaos; the long one is `python tests/chaos/run.py --faults 100`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from gremlin import Gremlin, identify
from sitting import run_chaos
from traces import ChaosError, Traces, expect_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.ray
def test_runs_with_random_faults_end_like_undisturbed_ones_and_leave_nothing(tmp_path):
    figures = run_chaos(num_faults=6, seed=4, folder=tmp_path, faults_per_run=3)
    assert figures.num_faults >= 6
    assert figures.num_runs >= 2


@pytest.mark.ray
def test_drivers_that_share_a_ray_end_like_undisturbed_ones_too(tmp_path):
    told = []
    figures = run_chaos(num_faults=8, seed=5, folder=tmp_path, faults_per_run=4, is_shared=True, after_run=told.append)
    assert figures.num_faults >= 8
    assert len(told) == figures.num_runs >= 2


def test_the_gremlin_draws_the_same_pauses_from_the_same_seed():
    drawn = [[Gremlin(seed).pause_s(1.0) for _ in range(3)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.slow
def test_a_process_that_stays_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("traces.LEFT_TIMEOUT_S", 0.2)
    with pytest.raises(ChaosError, match=f"left behind: process {os.getpid()}"):
        expect_gone(Traces(identify({os.getpid()})), tmp_path)


@pytest.mark.slow
def test_a_file_that_stays_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("traces.LEFT_TIMEOUT_S", 0.2)
    (tmp_path / "rest").touch()
    with pytest.raises(ChaosError, match="left behind: file rest"):
        expect_gone(Traces(), tmp_path)


@pytest.mark.slow
def test_shared_memory_that_stays_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("traces.LEFT_TIMEOUT_S", 0.2)
    path = tmp_path / "segment"
    path.touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ChaosError, match=r"shared memory .*segment"):
        expect_gone(Traces(shared_memory={path}), tmp_path / "empty")


@pytest.mark.slow
def test_a_process_that_has_ended_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    seen = identify({process.pid})
    assert len(seen) == 1
    process.communicate()
    expect_gone(Traces(seen), tmp_path)
