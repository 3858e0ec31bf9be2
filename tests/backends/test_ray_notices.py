"""Notices that a process or a node will be gone: who hears them, and what follows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from distbp.backends.ray import notices
from distbp.backends.ray.notices import Departure, DrainWatch, TermNotice


def test_a_draining_node_is_named_with_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    watch = DrainWatch(lambda _: {"a": 25.0, "b": None})
    found = watch.departures()
    assert {node: str(departure) for node, departure in found.items()} == {
        "a": "Ray drains its node, 25 s left",
        "b": "Ray drains its node",
    }
    assert not any(departure.is_near for departure in found.values())
    monkeypatch.setattr(time, "monotonic", lambda: 120.0)
    assert (found["a"].is_near, found["b"].is_near) == (True, False)
    monkeypatch.setattr(time, "monotonic", lambda: 200.0)
    assert str(found["a"]) == "Ray drains its node, 0 s left"


def test_ray_is_asked_once_a_second_and_less_often_while_it_does_not_answer(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def answer(_timeout_s):
        asked.append(now[0])
        if 10 <= now[0] < 20:
            raise RuntimeError("no answer")
        return {"a": None}

    watch = DrainWatch(answer)
    while now[0] < 30:
        assert set(watch.departures()) == {"a"}
        now[0] += 0.5
    assert asked == [float(second) for second in (*range(11), *range(20, 30))]


def test_an_end_that_nobody_has_named_is_not_near():
    assert not Departure("x", None).is_near


@pytest.fixture
def _own_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_own_handler")
def test_sigterm_is_a_notice_only_to_who_is_needed_and_only_once(monkeypatch):
    monkeypatch.setattr(notices, "GRACE_S", 3600.0)
    heard, needed = [], [False]
    signal.signal(signal.SIGTERM, lambda *_: heard.append("before"))
    notice = TermNotice(lambda: needed[0])
    os.kill(os.getpid(), signal.SIGTERM)
    assert (heard, notice.left_s) == (["before"], None)
    needed[0] = True
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ["before"]
    assert 0 < notice.left_s <= 3600
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ["before", "before"]


@pytest.mark.slow
def test_a_process_that_nobody_ends_after_its_notice_ends_itself():
    script = (
        "import time; from distbp.backends.ray import notices; notices.GRACE_S = 0.3\n"
        "notice = notices.TermNotice(lambda: True); print('up', flush=True); time.sleep(0.1)\n"
        "while notice.left_s is None: time.sleep(0.01)\n"
        "print('heard', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.readline() == "heard\n"
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
