"""Real disks that fill up or turn read-only under a run: small ones in memory, mounted for the test's process alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("disk_faults.py")
REASONS = {"full": "no space is left", "read_only": "the filesystem is read-only"}


@pytest.fixture(scope="module")
def _mounts() -> None:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")


@pytest.fixture
def train_on_disk(tmp_path, make_recipe):
    def call(fault: str, passes: str) -> tuple[dict, str]:
        recipe = make_recipe(epochs=8).model_dump_json()
        command = ["unshare", "--mount", sys.executable, PROGRAM, fault, passes, recipe, tmp_path]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout), done.stderr

    return call


@pytest.mark.usefixtures("_mounts")
@pytest.mark.parametrize("fault", ["full", "read_only"])
def test_a_disk_that_is_mended_in_time_costs_one_warning(fault, train_on_disk, train_toy, make_recipe, tmp_path):
    found, log = train_on_disk(fault, "passes")
    assert found["first"] == {"exit_code": 0, "digest": train_toy("whole", recipe=make_recipe(epochs=8)).digest}
    assert log.count(f"WARNING cannot write '{tmp_path}/disk/runs/run") == 1
    assert REASONS[fault] in log
    assert found["rescued"] is None


@pytest.mark.usefixtures("_mounts")
@pytest.mark.parametrize("fault", ["full", "read_only"])
def test_a_disk_that_stays_bad_ends_a_run_that_can_be_resumed_from_two_places(
    fault, train_on_disk, train_toy, make_recipe
):
    found, _ = train_on_disk(fault, "stays")
    whole = train_toy("whole", recipe=make_recipe(epochs=8)).digest
    assert found["first"]["exit_code"] == 4
    assert REASONS[fault] in found["first"]["message"]
    assert "the state after step 24 was saved in 'distbp-rescue-run/run'" in found["first"]["message"]
    assert found["second"] == found["rescued"] == {"exit_code": 0, "digest": whole}
    assert found["resumed_at"][0] <= 5  # at most checkpoint_every_steps=4 steps before the fault at step 4
