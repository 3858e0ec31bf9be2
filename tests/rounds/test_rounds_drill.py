"""Faults on purpose in rounds: kills of every kind, and a slow worker that gets fewer replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from distbp import Placement
from distbp.backends.base import Note
from distbp.config import Config
from distbp.drill import Fault, drill
from distbp.drill.backend import DrillBackend
from distbp.protocol.messages import StepOrder
from distbp.run import RunDirectory


class Recorder:
    """A backend that notes which orders it gets. Its one process is not there."""

    processes = ()

    def __init__(self):
        self.runs = []

    def admit(self):
        return False

    def run(self, orders, _abandon):
        self.runs.append([])
        for order in orders:
            self.runs[-1].append((order.step, order.end))
            yield order.end

    def take_notes(self) -> list[Note]:
        return []


def test_a_fault_within_a_round_is_due_when_that_round_begins(monkeypatch):
    monkeypatch.setattr("distbp.drill.backend.PRESENCE_S", 0.1)
    inner = Recorder()
    backend = DrillBackend(inner, {0: Fault("kill", "worker", 0, 7)}, lambda *_: None)
    steps = [StepOrder(step, 0, 0, 0, 0.1, 1) for step in range(15)]
    rounds = [StepOrder(step, 0, 0, 0, 0.7, 3, 0, tuple(steps[step : step + 4])) for step in (0, 4, 8, 12)]
    assert list(backend.run(iter(rounds))) == [4, 8, 12, 15]
    assert inner.runs[:2] == [[(0, 4)], [(4, 8)]]


@pytest.mark.ray
def test_rounds_end_with_the_same_bytes_after_a_worker_a_server_and_the_driver_were_killed(make_recipe, tmp_path):
    placement = Placement(backend="ray", workers=2, storage=str(tmp_path / "runs"), checkpoint_every_steps=2)
    report = drill(Config(recipe=make_recipe(epochs=4), placement=placement), [])
    assert report.same
    assert [outcome.fired for outcome in report.outcomes] == [True, True, True]
    assert report.disturbed.recoveries >= 2


@pytest.mark.ray
def test_a_slow_worker_gets_fewer_replicas_and_changes_no_bytes(make_recipe, train_toy, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    recipe = make_recipe(
        model={"function": "slow_rounds_model:build_unequal", "options": {"file": str(tmp_path / "taken")}},
        rounds={"steps": 2, "replicas": 8},
        epochs=2,
    )
    paced = train_toy("paced", recipe, backend="ray", workers=2, servers=1)
    events = RunDirectory.open(paced.run).read_events()
    texts = [event["text"] for event in events if event["kind"] == "shards"]
    assert any("replicas of workers 0 to 1 are now" in text for text in texts)
    assert train_toy("local", recipe).digest == paced.digest
