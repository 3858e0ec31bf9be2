"""The storage that fails on demand belongs to one test: what an earlier test has left behind does not reach it."""

from __future__ import annotations

import logging
import threading

import pytest
from faulty_storage import FaultyFileSystem, make_faulty_storage
from waiting import wait_until

from distbp.config import Config
from distbp.run import EventLog, RunDirectory

pytestmark = pytest.mark.slow


def test_a_writer_that_outlives_its_test_writes_nothing_into_the_next_ones_storage(caplog):
    caplog.set_level(logging.WARNING, "distbp")
    faults, hangs, goes_on = make_faulty_storage(), threading.Event(), threading.Event()
    run = RunDirectory.create("faulty://bucket/runs", "a", Config(), {"numpy": "2.0"})
    log = EventLog(run)  # reads, and must not hang itself

    def hang(*_: str) -> None:
        hangs.set()
        goes_on.wait(60)

    faults.meet = hang
    log.append("left behind")
    assert hangs.wait(60)
    make_faulty_storage()
    RunDirectory.create("faulty://bucket/runs", "b", Config(), {"numpy": "2.0"})
    goes_on.set()
    wait_until(lambda: "the storage of a test that is over" in caplog.text)
    assert not [path for path in FaultyFileSystem.store if "/runs/a/" in path]
