"""The hash of a step log in a receipt: of old logs as it always was, and it covers what lines have got since."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from distbp.run import StepRecord
from distbp.verification.receipt import hash_records

LINE = (
    '{"step": 3, "epoch": 1, "loss": 0.5, "num_examples": 64, "compute_s": 0.5, "wait_s": 0.25, "commit_s": 0.125, '
    '"checksum": "c0ffee", "mean_compute_s": 0.4, "replicas": [%s]}\n'
)
RECORD = StepRecord(3, 1, 0.5, 64, 0.5, 0.25, 0.125, "c0ffee", 0.4)


@pytest.mark.parametrize(("replicas", "text"), [((), ""), (("a1", "b2"), '"a1", "b2"')])
def test_receipts_of_before_still_fit_their_logs(replicas, text):
    expected = hashlib.sha256((LINE % text).encode()).hexdigest()
    assert hash_records([replace(RECORD, replicas=replicas)]) == expected


@pytest.mark.parametrize("change", [{"weight": 64.0}, {"weight": 63.0}, {"data_s": 0.5}, {"data_s": 0.25}])
def test_weight_and_wait_are_part_of_the_hash(change):
    others = [RECORD, replace(RECORD, weight=64.5), replace(RECORD, data_s=0.75)]
    assert hash_records([replace(RECORD, **change)]) not in {hash_records([other]) for other in others}
