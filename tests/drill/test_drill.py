"""Drills: the faults really happen, the runs really are compared, and what does not happen is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import start_distbp
from waiting import wait_until

from distbp import Placement, Recipe
from distbp.cli.app import run as run_command
from distbp.config import Config
from distbp.drill import Fault, drill
from distbp.drill.backend import DrillBackend
from distbp.drill.signals import Brakes
from distbp.errors import ConfigError, StorageError
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow

RECIPE = {"model": {"hidden": [8]}, "global_batch_size": 100, "epochs": 3}


def make_config(storage: Path, **placement) -> Config:
    values = {"storage": str(storage), "checkpoint_every_steps": 6, **placement}
    return Config(recipe=Recipe.model_validate(RECIPE), placement=Placement.model_validate(values))


@pytest.mark.slow
def test_a_killed_driver_is_started_again_and_ends_with_the_same_bytes(tmp_path):
    report = drill(make_config(tmp_path), [Fault("kill", "driver", 0, 20), Fault("kill", "driver", 0, 31)])
    assert report.same
    assert [outcome.fired for outcome in report.outcomes] == [True, True]
    assert all(outcome.back_s > 0 for outcome in report.outcomes)
    events = RunDirectory.open(report.disturbed.run).read_events()
    assert [event["kind"] for event in events].count("started") == 3


def test_errors_of_the_disturbed_run_are_those_of_the_drill(tmp_path, monkeypatch):
    def fail(*_):
        raise StorageError("no room")

    monkeypatch.setattr("distbp.drill.conduct.run_disturbed", fail)
    with pytest.raises(StorageError, match="no room"):
        drill(make_config(tmp_path), [Fault("kill", "driver", 0, 3)])


def test_workers_of_another_machine_are_out_of_reach(tmp_path):
    with pytest.raises(ConfigError, match=r"leave placement\.address out"):
        drill(make_config(tmp_path, address="10.0.0.1:6379"), [Fault("kill", "worker", 0, 3)])


class NoProcesses:
    """A backend whose group has no processes."""

    processes = ()

    def admit(self):
        return False

    def run(self, orders, _abandon):
        yield from (order.step for order in orders)


class Order:
    def __init__(self, step: int):
        self.step, self.end = step, step + 1


def test_a_fault_without_its_target_does_not_fire_and_does_not_stop_the_run(monkeypatch):
    monkeypatch.setattr("distbp.drill.backend.PRESENCE_S", 0.1)
    told = []
    backend = DrillBackend(NoProcesses(), {0: Fault("kill", "worker", 0, 2)}, lambda *said: told.append(said))
    assert list(backend.run(Order(step) for step in range(6))) == list(range(6))
    assert told == []


@pytest.mark.slow
def test_a_slowed_process_gets_its_share_of_time_and_runs_on_when_released():
    script = "import time\nwhile True: print(time.process_time(), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    brakes = Brakes()
    try:
        began = float(process.stdout.readline())
        brakes.apply(process.pid, 10)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            used = float(process.stdout.readline()) - began
        assert used < 0.4
        brakes.release()
        assert process.stdout.readline()
    finally:
        brakes.release()
        process.kill()
        process.communicate()


@pytest.mark.ray
def test_killed_workers_servers_and_drivers_a_hang_and_a_slow_worker_change_no_byte(tmp_path, capfd):
    """The whole command, with every kind of fault."""
    faults = ["--kill", "worker:1@3", "--kill", "server@9", "--kill", "driver@14"]
    faults += ["--slow", "worker:0@2x4", "--hang", "worker:2@20"]
    settings = ["--set", f"recipe={json.dumps(RECIPE)}", "--workers", "3", "--storage", str(tmp_path)]
    code = run_command(["drill", *faults, *settings, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert code == 0
    assert found["same"]
    assert found["undisturbed"]["digest"] == found["disturbed"]["digest"]
    assert [outcome["fired"] for outcome in found["outcomes"]] == [True] * 5
    assert found["disturbed"]["recoveries"] >= 1  # those since the driver was killed
    kinds = [event["kind"] for event in RunDirectory.open(found["disturbed"]["run"]).read_events()]
    assert kinds.count("recovered") >= 3


@pytest.mark.slow
def test_digests_that_differ_and_faults_that_did_not_happen_have_their_exit_codes(tmp_path, monkeypatch, capsys):
    report = drill(make_config(tmp_path), [Fault("kill", "driver", 0, 3)])
    other = replace(report, same=False)
    idle = replace(report, outcomes=(replace(report.outcomes[0], fired=False, back_s=None),))
    for found, code, text in ((other, 9, "ends with other bytes"), (idle, 1, "kill driver@3 did not happen")):
        monkeypatch.setattr("distbp.drill.drill", lambda *_, found=found, **__: found)
        assert run_command(["drill", "--storage", str(tmp_path)]) == code
        assert text in " ".join(capsys.readouterr().err.split())


def hear_interrupts() -> None:
    """Undo what a shell does to a command in the background, and all that it starts: to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_an_interrupted_drill_leaves_no_driver_behind(tmp_path):
    words = ("drill", "--kill", "driver@5", "--storage", tmp_path, "--set", "epochs=100")
    process = start_distbp(*words, preexec_fn=hear_interrupts)
    before = ""
    while "parameters) on" not in (line := process.stderr.readline()) or "disturbed run: kill" not in before:
        before = line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert children
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))  # multiprocessing's tracker too
