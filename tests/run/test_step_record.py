"""A line of the step log holds what a step has, and nothing for what it does not have."""

from __future__ import annotations

import json

import pytest

from distbp.protocol.messages import StepReport
from distbp.run import StepLog, StepRecord
from distbp.run.records import parse_steps
from distbp.training.journal import Journal

PLAIN = (
    b'{"step": 3, "epoch": 1, "loss": 0.30000000000000004, "num_examples": 64, "compute_s": 0.5, "wait_s": 0.25, '
    b'"commit_s": 0.125, "checksum": "00000000c0ffee00", "mean_compute_s": 0.4}\n'
)
"""As distbp wrote it before a line could tell a weight or a wait for data."""


@pytest.fixture
def write_line(run):
    """Returns the line that a session writes of a step."""

    def call(**fields: object) -> bytes:
        report = StepReport(3, 1, 0.1 + 0.2, 64, "00000000c0ffee00", True, 0.5, 0.25, 0.125, 0.4, **fields)
        with StepLog(run) as log:
            Journal("run", log, None, None, None, 0.0).note_step(report)
        return run.folder.read("steps.jsonl")

    return call


def test_a_step_without_weights_and_waits_has_the_line_of_before(write_line):
    assert write_line() == PLAIN


@pytest.mark.parametrize("fields", [{"weight": 12.5}, {"data_s": 0.75}, {"weight": 0.5, "data_s": 0.1 + 0.2}])
def test_weight_and_wait_for_data_are_at_the_end_of_the_line_and_are_read_back(write_line, run, fields):
    line = write_line(**fields)
    assert line == PLAIN[:-2] + b", " + json.dumps(fields).encode()[1:] + b"\n"
    [record] = run.read_steps()
    assert (record.weight, record.data_s) == (fields.get("weight"), fields.get("data_s", 0.0))


def test_a_line_of_before_has_no_weight_and_no_wait():
    [record] = parse_steps(PLAIN, "log")
    assert record == StepRecord(3, 1, 0.1 + 0.2, 64, 0.5, 0.25, 0.125, "00000000c0ffee00", 0.4)
    assert (record.weight, record.divisor, record.data_s, record.seconds) == (None, 64, 0.0, 0.875)


def test_the_loss_is_a_mean_over_weights_where_there_are_some():
    [record] = parse_steps(PLAIN[:-2] + b', "weight": 12.5, "data_s": 1.0}\n', "log")
    assert (record.divisor, record.seconds) == (12.5, 1.875)


@pytest.mark.parametrize("field", [b'"weight": [1]', b'"weight": "much"', b'"data_s": {}', b'"data_s": null'])
def test_weights_and_waits_that_are_no_numbers_are_no_record(field):
    with pytest.raises(ValueError, match=r"no step record|could not convert"):
        StepRecord.from_values(json.loads(PLAIN[:-2] + b", " + field + b"}"))
