from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from distbp.errors import CheckpointError
from distbp.run import EventLog, StepLog, StepRecord
from distbp.run.records import parse_steps
from distbp.text.json_text import encode_line

RECORD = StepRecord(1, 0, 0.1 + 0.2, 64, 0.001, 1e-7, 0.5, "c0ffee")


ENDLESS_STEP = encode_line(vars(RECORD)).replace('"step": 1', '"step": 1e999').strip().encode()


def record(step: int, **changes: object) -> StepRecord:
    return replace(RECORD, step=step, **changes)


def test_records_come_back_exactly(run):
    records = [record(1), record(2, loss=1 / 3), record(3, loss=math.inf)]
    with StepLog(run) as log:
        for each in records:
            log.append(each)
    assert run.read_steps() == records


def test_lines_are_valid_json_whatever_the_loss(run):
    with StepLog(run) as log:
        log.append(record(1, loss=math.nan))
        log.append(record(2, loss=np.float32(0.5)))

    def refuse(token: str) -> None:
        raise AssertionError(token)

    for line in run.folder.read("steps.jsonl").splitlines():
        json.loads(line, parse_constant=refuse)
    assert math.isnan(run.read_steps()[0].loss)
    assert run.read_steps()[1].loss == 0.5


def test_lines_are_written_when_the_flush_interval_is_over(run, monkeypatch):
    monkeypatch.setattr(type(run.folder), "flush_interval_s", 0.02)
    log = StepLog(run)
    for step in range(1, 4):
        log.append(record(step))
        wait_until(lambda step=step: len(run.read_steps()) == step)
    log.close()


@pytest.mark.parametrize("damaged", [b'{"step": 2,,\n', b'{"step": 2}\n', b"[]\n", b"\xff\n"])
def test_a_damaged_last_line_of_the_step_log_does_not_keep_a_run_from_going_on(run, caplog, damaged):
    content = encode_line(vars(record(1))).encode() + damaged
    run.folder.write("steps.jsonl", content)
    StepLog(run, from_step=2).close()
    assert run.folder.read("steps.jsonl") == content  # evidence
    assert "ends with step 1 although the run has done 2" in caplog.text


def test_lines_wait_for_the_next_flush(run):
    log = StepLog(run)
    log.append(record(1))
    log.close()
    log.append(record(2))
    assert [r.step for r in run.read_steps()] == [1]
    log.close()
    assert [r.step for r in run.read_steps()] == [1, 2]


def test_resumed_run_that_stops_early_shows_no_steps_of_the_one_before(run):
    with StepLog(run) as log:
        for step in range(1, 151):
            log.append(record(step, checksum="old"))
    with StepLog(run, from_step=100) as log:
        for step in range(101, 121):
            log.append(record(step, checksum="new"))
    steps = run.read_steps()
    assert [r.step for r in steps] == list(range(1, 121))
    assert {r.checksum for r in steps[:100]} == {"old"}
    assert {r.checksum for r in steps[100:]} == {"new"}


def test_resumed_run_that_does_no_step_shows_no_later_ones(run):
    with StepLog(run) as log:
        for step in range(1, 16):
            log.append(record(step))
    StepLog(run, from_step=10).close()
    assert [r.step for r in run.read_steps()] == list(range(1, 11))


def test_steps_redone_in_one_session_replace_the_abandoned_ones(run):
    with StepLog(run) as log:
        for step in (1, 2, 3, 4, 2, 3):
            log.append(record(step))
    assert [r.step for r in run.read_steps()] == [1, 2, 3]


def test_torn_last_line_is_ignored_and_resuming_goes_on_after_it(run):
    run.folder.append("steps.jsonl", encode_line(vars(record(1))).encode() + b'{"step": 2, "epo')
    assert run.read_steps() == [record(1)]
    with StepLog(run, from_step=1) as log:
        log.append(record(2))
    assert run.read_steps() == [record(1), record(2)]


@pytest.mark.parametrize(
    "garbage", [b"{", b"\x00\x00", b"[1]", b'{"step": 1}', b"", b'{"step": "x"}', b"[" * 100_000, ENDLESS_STEP]
)
def test_garbage_before_the_last_line_is_an_error_with_its_line(run, garbage):
    line = encode_line(vars(record(1))).encode()
    run.folder.append("steps.jsonl", line + garbage + b"\n" + line)
    with pytest.raises(CheckpointError, match=r"line 2 of '.*steps.jsonl' is damaged"):
        run.read_steps()


@given(st.lists(st.integers(1, 12), max_size=30))
def test_read_steps_are_ascending_and_the_last_written_of_each(steps):
    lines = [encode_line(vars(record(step, num_examples=i))) for i, step in enumerate(steps)]
    records = parse_steps("".join(lines).encode(), "log")
    assert [r.step for r in records] == sorted({r.step for r in records})
    for r in records:
        assert r.num_examples == max(i for i, step in enumerate(steps) if step == r.step)
        assert all(step > r.step for step in steps[r.num_examples + 1 :])


def test_run_without_logs_has_no_steps_and_no_events(run):
    assert run.read_steps() == []
    assert run.read_events() == []


def test_events_are_there_at_once_with_time_and_kind(run):
    log = EventLog(run)
    log.append("worker lost", worker=1, loss=math.nan, cause=ValueError("x"))
    wait_until(lambda: run.read_events())
    EventLog(run).append("recovered")
    wait_until(lambda: len(run.read_events()) == 2)
    log.close()
    first, second = run.read_events()
    assert first["time"].endswith("+00:00")
    assert (first["kind"], first["worker"], first["loss"], first["cause"]) == ("worker lost", 1, "NaN", "x")
    assert second["kind"] == "recovered"


def test_torn_event_is_ignored_and_dropped_by_the_next_log(run):
    run.folder.append("events.jsonl", b'{"kind": "a"}\n{"ki')
    assert run.read_events() == [{"kind": "a"}]
    log = EventLog(run)
    log.append("b")
    log.close()
    assert [event["kind"] for event in run.read_events()] == ["a", "b"]
