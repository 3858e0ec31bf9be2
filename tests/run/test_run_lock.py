from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from waiting import wait_until

from distbp.errors import CheckpointError, StorageError
from distbp.machine.processes import read_start_time
from distbp.run import RunDirectory
from distbp.run.lock import LOCK_FILE
from distbp.run.owner import LockOwner, Sign

pytestmark = pytest.mark.slow

HOLD = """
import sys
from distbp.run import RunDirectory
with RunDirectory.open(sys.argv[1]).lock():
    print("held", flush=True)
    input()
"""


def read_owner(run: RunDirectory) -> LockOwner:
    owner = LockOwner.decode(run.folder.read(LOCK_FILE))
    assert owner is not None
    return owner


def leave_lock(run: RunDirectory, **changes: object) -> LockOwner:
    owner = replace(LockOwner.of_this_process(), **changes)
    run.folder.write(LOCK_FILE, owner.encode())
    return owner


def test_second_driver_is_refused_until_the_first_is_done(run):
    other = RunDirectory.open(run.url)
    assert not other.is_locked()
    with run.lock():
        assert run.holds_lock
        assert not other.holds_lock
        assert other.is_locked()
        with pytest.raises(CheckpointError, match=rf"in use by process {os.getpid()} on host '.+' \(last sign of life"):
            other.lock().acquire()
    assert not run.holds_lock
    with other.lock():
        pass
    assert run.folder.read(LOCK_FILE) is None


@pytest.mark.slow
def test_lock_of_a_living_process_holds_and_that_of_a_killed_one_does_not(local_run):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, local_run.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(
            CheckpointError, match=rf"in use by process {process.pid} .* stop it \(kill {process.pid}\)"
        ):
            local_run.lock().acquire()
        process.kill()
        wait_until(lambda: not local_run.is_locked())
        with local_run.lock():  # also while the killed one is still a zombie
            assert read_owner(local_run).pid == os.getpid()


def test_lock_of_a_reused_pid_is_taken_over(run):
    leave_lock(run, started=1, token="gone")
    with run.lock():
        assert read_owner(run).token != "gone"


def test_lock_that_was_being_written_when_its_writer_died_is_taken_over(run):
    run.folder.write(LOCK_FILE, b'{"host": "x')
    with run.lock():
        assert run.holds_lock


def test_lock_of_another_host_is_respected_from_its_next_heartbeat_on(run, monkeypatch):
    there = leave_lock(run, host="elsewhere")
    pauses = []

    def beat_at_the_third(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            run.folder.write(LOCK_FILE, replace(there, heartbeat=there.heartbeat + 5).encode())

    monkeypatch.setattr("distbp.run.lock.time.sleep", beat_at_the_third)
    with pytest.raises(CheckpointError, match="on host 'elsewhere'"):
        run.lock().acquire()
    assert pauses == [5.0, 5.0, 5.0]


def test_lock_of_another_host_is_taken_over_when_its_heart_has_stopped(run, monkeypatch):
    leave_lock(run, host="elsewhere")
    monkeypatch.setattr("distbp.run.owner.STALE_AFTER_S", 0.5)
    pauses, pause = [], time.sleep
    monkeypatch.setattr("distbp.run.lock.time.sleep", lambda seconds: pauses.append(seconds) or pause(seconds))
    with run.lock(heartbeat_s=0.02):
        assert read_owner(run).host != "elsewhere"
    assert pauses  # it was watched first


def test_lock_of_another_host_that_is_given_back_is_taken(run, monkeypatch):
    leave_lock(run, host="elsewhere")
    monkeypatch.setattr("distbp.run.lock.time.sleep", lambda _: run.folder.remove(LOCK_FILE))
    with run.lock():
        assert run.holds_lock


def test_silent_lock_of_another_host_is_taken_over(run):
    leave_lock(run, host="elsewhere", heartbeat=time.time() - 61)
    with run.lock(heartbeat_s=0.01):
        assert read_owner(run).host != "elsewhere"


def test_lock_that_storage_did_not_let_go_does_not_lock_its_own_process_out(run, monkeypatch):
    def refuse(*_: object) -> None:
        raise StorageError("read-only")

    with monkeypatch.context() as patch, run.lock():
        patch.setattr(type(run.folder), "remove", refuse)
    assert run.folder.read(LOCK_FILE) is not None
    with run.lock(), pytest.raises(CheckpointError, match="in use by process"):
        RunDirectory.open(run.url).lock().acquire()


def test_a_lock_is_given_up_when_storage_hangs(run, monkeypatch):
    beating, mended, ended = threading.Event(), threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        beating.set()
        mended.wait(60)
        ended.set()

    monkeypatch.setattr("distbp.run.lock.RELEASE_TIMEOUT_S", 0.05)
    lock = run.lock(heartbeat_s=0.01)
    lock.acquire()
    monkeypatch.setattr(type(run.folder), "write_over", hang)
    assert beating.wait(60)
    lock.release()
    assert not ended.is_set()  # its heart still hangs
    assert not run.holds_lock
    assert run.folder.read(LOCK_FILE) is not None
    mended.set()
    assert ended.wait(60)


def test_lock_of_another_host_whose_clock_is_behind_is_respected(run, monkeypatch):
    behind = leave_lock(run, host="elsewhere", heartbeat=time.time() - 1000)
    beats = []

    def beat_meanwhile(seconds: float) -> None:
        beats.append(seconds)
        run.folder.write(LOCK_FILE, replace(behind, heartbeat=behind.heartbeat + 5).encode())

    monkeypatch.setattr("distbp.run.lock.time.sleep", beat_meanwhile)
    with pytest.raises(CheckpointError, match="in use by process"):
        run.lock().acquire()
    assert beats == [10.0]


def test_heartbeat_keeps_the_lock_young(run):
    with run.lock(heartbeat_s=0.01):
        first = read_owner(run).heartbeat
        wait_until(lambda: read_owner(run).heartbeat > first)


def test_lock_of_another_is_never_removed_and_its_loss_is_told(run):
    with run.lock(heartbeat_s=0.01) as lock:
        lock.check()
        leave_lock(run, token="other")
        wait_until(lambda: not lock.is_held)
        with pytest.raises(CheckpointError, match="was taken over by another driver"):
            run.check_lock()
    assert read_owner(run).token == "other"


def test_processes_of_other_machines_and_containers_are_judged_by_heartbeat_only():
    me = LockOwner.of_this_process()
    dead = replace(me, pid=2**22 + 1)
    assert dead.examine(me) is Sign.DEAD
    assert replace(dead, machine="another boot").examine(me) is Sign.ALIVE
    parent = replace(me, pid=os.getppid(), started=read_start_time(os.getppid()))
    assert replace(parent, heartbeat=me.heartbeat - 1000).examine(me) is Sign.ALIVE
    assert me.examine(replace(me, token="another")) is Sign.DEAD  # no thread of this process keeps it
    assert replace(me, host="elsewhere", heartbeat=me.heartbeat - 61).examine(me) is Sign.SILENT


def test_leftovers_of_killed_writers_are_removed(run):
    run.folder.write(".tmp-result.json-00", b"x")
    with run.lock():
        assert ".tmp-result.json-00" not in run.folder.names()
