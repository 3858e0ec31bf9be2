"""Runs that overlap on Ray, and models that do what they like there: the same bits, and Ray stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
HERE = Path(__file__).parent


@pytest.fixture
def overlap(toy_data: Path, tmp_path: Path) -> Callable[[str], dict]:
    """Runs a case of overlap_on_ray.py in a process of its own and returns what it found."""

    def call(case: str) -> dict:
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        done = subprocess.run(
            [sys.executable, str(HERE / "overlap_on_ray.py"), case, str(toy_data), str(tmp_path / "runs")],
            capture_output=True,
            text=True,
            timeout=240,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def test_runs_that_share_a_private_ray_end_alike_and_the_last_one_ends_it(overlap):
    found = overlap("private")
    assert len(found["digests"]) == 4
    assert len(set(found["digests"])) == 1
    assert not found["is_connected"]
    assert found["changed"] == []


def test_runs_on_the_users_own_connection_end_alike_and_leave_it(overlap):
    found = overlap("own")
    assert len(found["digests"]) == 4
    assert len(set(found["digests"])) == 1
    assert found["is_connected"]
    assert found["changed"] == []
    assert found["answer"] == 42


def test_a_run_that_needs_more_than_the_private_ray_in_use_is_refused_and_the_other_goes_on(overlap):
    found = overlap("larger")
    assert len(set(found["digests"])) == 1
    assert found["errors"] == [
        "ClusterError: another run of this process has started a private Ray of 1 CPUs, and this one needs 2; "
        "call ray.init(num_cpus=...) before both, or start this one when the other has ended"
    ]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("backend", ["local", "ray"])
def test_result_does_not_depend_on_a_model_that_sets_the_number_of_threads(train_toy, make_recipe, backend):
    """The gradients that it spoils are computed again."""
    digests = {
        train_toy(f"every-{every}", make_recipe(model=model_that_changes(every)), backend=backend, workers=2).digest
        for every in (0, 20)
    }
    assert len(digests) == 1


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("backend", ["local", "ray"])
def test_a_model_that_sets_it_in_every_gradient_is_refused(train_toy, make_recipe, backend):
    from distbp.errors import NumericsError

    with pytest.raises(NumericsError, match="in a model of your own: do not set it"):
        train_toy("run", make_recipe(model=model_that_changes(1)), backend=backend, workers=2)


def model_that_changes(every: int) -> dict:
    return {"function": "thread_changing_model:build", "options": {"every": every}}
