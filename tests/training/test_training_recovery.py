"""The driver recovers whatever it was doing when the group was lost; here groups are scripted, without processes."""

from __future__ import annotations

import logging
import signal
import threading

import pytest
from scripted_backend import Script, ScriptedBackend

from distbp.errors import ClusterError, TerminatedRunError, WorkersLostError
from distbp.protocol.recovery import Decision
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow

NUM_STEPS = 6


@pytest.fixture
def train_scripted(train_toy):
    """Trains like `train_toy` on a scripted backend."""

    def call(script: Script, name: str = "scripted", kind=ScriptedBackend, **fields):
        return train_toy(name, connect=lambda placement: kind(placement.min_workers, script), **fields)

    return call


@pytest.fixture
def whole(train_toy):
    return train_toy("whole")


def events(run: str, kind: str) -> list[dict]:
    return [event for event in RunDirectory.open(run).read_events() if event["kind"] == kind]


@pytest.mark.parametrize("servers_live", [True, False])
@pytest.mark.parametrize("step", range(NUM_STEPS))
def test_a_group_lost_at_any_step_ends_like_an_undisturbed_one(step, servers_live, train_scripted, whole):
    script = Script(lose_at=[step], servers_live=servers_live)
    found = train_scripted(script, checkpoint_every_steps=2)
    assert script.lose_at == []
    assert (found.digest, found.recoveries) == (whole.digest, 1)
    assert [(r.step, r.checksum) for r in RunDirectory.open(found.run).read_steps()] == [
        (r.step, r.checksum) for r in RunDirectory.open(whole.run).read_steps()
    ]


@pytest.mark.parametrize("servers_live", [True, False])
@pytest.mark.parametrize("method", ["start", "evaluate", "snapshot"])
def test_a_group_lost_in_any_call_ends_like_an_undisturbed_one(method, servers_live, train_scripted, whole):
    script = Script(lose_in=[method], servers_live=servers_live)
    found = train_scripted(script, checkpoint_every_steps=2)
    assert script.lose_in == []
    assert (found.digest, found.recoveries) == (whole.digest, 1)


def test_a_group_lost_again_and_again_ends_like_an_undisturbed_one(train_scripted, whole):
    script = Script(lose_at=[1, 2, 4, 6], lose_in=["evaluate", "start", "snapshot"], servers_live=False)
    found = train_scripted(script, checkpoint_every_steps=1)
    assert (script.lose_at, script.lose_in) == ([], [])
    assert (found.digest, found.recoveries) == (whole.digest, 7)


def test_events_tell_what_was_lost_and_how_long_recovery_took(train_scripted):
    found = train_scripted(Script(lose_at=[3], servers_live=False), checkpoint_every_steps=2, workers=2)
    ((lost,), (recovering,), (recovered,)) = (events(found.run, kind) for kind in ("lost", "recovering", "recovered"))
    assert (lost["step"], lost["reason"], lost["action"]) == (3, "lost worker 1 in run", "shrink")
    assert (recovering["state"], recovering["redone"]) == ("checkpoint", 3 - recovering["step"])
    assert recovered["seconds"] == pytest.approx(found.longest_recovery_s, abs=1e-3)


def test_every_second_of_a_run_is_accounted_for(train_scripted):
    found = train_scripted(Script(lose_at=[5], servers_live=False))
    parts = (found.work_s, found.waiting_s, found.recomputing_s, found.checkpointing_s)
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(found.seconds, abs=3e-3)
    assert found.goodput == pytest.approx(found.work_s / sum(parts), abs=0.01)


def test_steps_done_again_after_a_driver_died_count_as_recomputed(train_toy, whole):
    class PowerCutError(Exception):
        pass

    def cut_power(progress):
        if progress.position.step == 5:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train_toy(observe=cut_power)
    again = train_toy(resume="must")
    (_, start) = events(again.run, "started")
    assert start["step"] < 5
    assert again.recomputing_s > 0
    assert again.digest == whole.digest


def test_a_run_without_failures_recomputes_nothing(whole):
    assert (whole.recoveries, whole.recomputing_s, whole.longest_recovery_s) == (0, 0, 0)


def test_a_group_grows_at_a_step_boundary_and_ends_like_an_undisturbed_one(train_scripted, whole):
    script = Script(grow_at=[1, 4])
    found = train_scripted(script, workers=[1, 3])
    assert found.digest == whole.digest
    assert [(event["step"], event["workers"]) for event in events(found.run, "formed")] == [(0, 1), (1, 2), (4, 3)]


def test_a_group_lost_while_it_grows_ends_like_an_undisturbed_one(train_scripted, whole):
    script = Script(grow_at=[2], lose_at=[], servers_live=False)
    starts = iter([None, "start"])

    class LostWhileGrowing(ScriptedBackend):
        def start(self, *group):
            script.lose_in += filter(None, [next(starts, None)])
            return super().start(*group)

    found = train_scripted(script, kind=LostWhileGrowing, workers=[1, 2])
    assert (found.digest, found.recoveries) == (whole.digest, 1)
    assert events(found.run, "recovering") == []  # the state was at hand


def test_a_run_asks_for_its_minimum_and_after_a_failure_for_what_its_range_allows(train_scripted):
    fixed, elastic = Script(lose_at=[2]), Script(lose_at=[2])
    train_scripted(fixed, workers=3)
    train_scripted(elastic, "elastic", workers=[2, 3])
    assert (fixed.minimums, elastic.minimums) == ([3, 1], [2, 2])


def test_waiting_below_the_minimum_is_not_silent(train_scripted, whole, monkeypatch, caplog):
    monkeypatch.setattr("distbp.training.worker_wait.FIRST_WORD_S", 0.0)
    caplog.set_level(logging.WARNING, "distbp")
    assert train_scripted(Script(shortages=3), workers=[2, 4]).digest == whole.digest
    (message,) = [r.getMessage() for r in caplog.records if "waiting" in r.getMessage()]
    assert message.startswith("waiting for workers: 1 of at least 2 workers have started; the cluster is small")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("distbp.training.worker_wait.WorkerWait.__init__.__defaults__", (0.0,))


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_stays_too_small_ends_the_run_with_advice(train_scripted):
    with pytest.raises(ClusterError, match=r"only 1 of at least 2 workers started within 0 s"):
        train_scripted(Script(shortages=10**9))


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_stays_too_small_after_a_failure_counts_as_lost_workers(train_scripted, train_toy, whole):
    class Shrinking(Script):
        @property
        def shortages(self):
            return 10**9 if self.num_commits else 0

        @shortages.setter
        def shortages(self, _):
            pass

    with pytest.raises(WorkersLostError, match="the same command starts or resumes the run"):
        train_scripted(Shrinking(lose_at=[3]))
    assert train_toy("scripted").digest == whole.digest


def test_a_signal_ends_the_wait_for_workers_with_what_was_done(train_scripted, train_toy, whole):
    class StopsWhileWaiting(Script):
        @property
        def shortages(self):
            if self.num_commits == 4:
                signal.raise_signal(signal.SIGTERM)
                return 1
            return 0

        @shortages.setter
        def shortages(self, _):
            pass

    with pytest.raises(TerminatedRunError, match="stopped after step 4 of 6, before its workers were ready"):
        train_scripted(StopsWhileWaiting(lose_at=[4]), checkpoint_every_steps=100)
    again = train_toy("scripted", resume="must")
    assert (again.digest, [e["step"] for e in events(again.run, "started")]) == (whole.digest, [0, 4])


def test_a_spent_budget_names_the_cause_first_and_how_to_go_on(train_scripted, train_toy, whole):
    with pytest.raises(WorkersLostError) as caught:
        train_scripted(Script(lose_at=[1, 2, 4]), max_failures=1)
    assert str(caught.value) == (
        "lost worker 1 in run; that is more than max_failures=1; the same command resumes the run"
    )
    assert train_toy("scripted", resume="must").digest == whole.digest


def test_each_session_has_the_whole_budget(train_scripted, whole):
    for lost_at in (1, 1):
        with pytest.raises(WorkersLostError):
            train_scripted(Script(lose_at=[lost_at]), max_failures=0)
    assert train_scripted(Script(), max_failures=0).digest == whole.digest


@pytest.mark.parametrize("servers_live", [True, False])
def test_a_signal_ends_a_back_off_and_the_same_command_goes_on(servers_live, train_scripted, whole, monkeypatch):
    def decide_to_wait(*_: object) -> Decision:
        timers.append(threading.Timer(0.05, signal.raise_signal, [signal.SIGTERM]))
        timers[-1].start()
        return Decision("shrink", backoff_s=1e6)

    timers: list[threading.Timer] = []
    with monkeypatch.context() as patch:
        patch.setattr("distbp.training.lost_groups.decide", decide_to_wait)
        with pytest.raises(TerminatedRunError, match="the same command resumes"):
            train_scripted(Script(lose_at=[4], servers_live=servers_live), checkpoint_every_steps=2)
    assert len(timers) == 1
    assert train_scripted(Script()).digest == whole.digest
