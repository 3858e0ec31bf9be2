"""Preemption as a drill: a worker, a server and a driver hear that they will be gone, and nothing is done twice."""

from __future__ import annotations

import json

import pytest

from distbp.cli.app import run as run_command
from distbp.drill.faults import Fault, parse_fault
from distbp.errors import ConfigError
from distbp.run import RunDirectory

RECIPE = {"model": {"hidden": [8]}, "global_batch_size": 100, "epochs": 20}


@pytest.mark.parametrize("text", ["worker:1@40", "server:0@60", "driver@80"])
def test_preemptions_are_read_as_they_are_written(text):
    fault = parse_fault("preempt", text)
    assert str(fault) == f"preempt {text}"
    assert fault.is_notice_to_driver == (fault.target == "driver")


def test_a_preemption_has_no_factor():
    with pytest.raises(ConfigError, match="x2 is for --slow"):
        parse_fault("preempt", "worker:0@4x2")


def test_a_killed_driver_has_heard_no_notice():
    assert not Fault("kill", "driver", 0, 3).is_notice_to_driver


@pytest.mark.ray
def test_a_worker_and_a_server_leave_in_time_and_no_step_is_done_again(tmp_path, capfd):
    faults = ["--preempt", "worker:2@20", "--preempt", "server@100"]
    settings = ["--set", f"recipe={json.dumps(RECIPE)}", "--workers", "3", "--storage", str(tmp_path)]
    code = run_command(["drill", *faults, *settings, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert code == 0
    assert found["same"]
    assert [outcome["fired"] for outcome in found["outcomes"]] == [True] * 2
    disturbed = found["disturbed"]
    assert (disturbed["preemptions"], disturbed["recoveries"], disturbed["recomputing_s"]) == (2, 0, 0)
    events = RunDirectory.open(disturbed["run"]).read_events()
    kinds = [event["kind"] for event in events]
    assert kinds.count("leaving") == kinds.count("left") == 2
    assert "lost" not in kinds
    assert "its process has got SIGTERM" in events[kinds.index("leaving")]["text"]


@pytest.mark.ray
def test_a_driver_that_is_preempted_saves_and_the_same_command_goes_on(tmp_path, capfd):
    settings = ["--set", f"recipe={json.dumps(RECIPE)}", "--workers", "2", "--storage", str(tmp_path)]
    code = run_command(["drill", "--preempt", "driver@30", *settings, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert code == 0
    assert found["same"]
    assert found["disturbed"]["recomputing_s"] == 0
