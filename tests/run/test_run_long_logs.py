"""Logs of very long runs are read line by line, and mean the same as when they are read whole."""

from __future__ import annotations

import pytest

from distbp.config import load_config
from distbp.errors import CheckpointError
from distbp.run import RunDirectory
from distbp.run.records import find_gaps, last_step, parse_checksums, parse_steps
from distbp.text.json_text import encode_line
from distbp.training import train
from distbp.verification.verify import verify

TOLD_TWICE = (1, 2, 3, 4, 5, 3, 4, 5, 6, 2, 3)


def lines(*steps: int) -> list[bytes]:
    values = {"epoch": 0, "loss": 0.5, "num_examples": 1, "compute_s": 0.0, "wait_s": 0.0, "commit_s": 0.0}
    return [encode_line({"step": s, **values, "checksum": f"{n:x}"}).encode() for n, s in enumerate(steps)]


@pytest.mark.parametrize("steps", [(), (1, 2, 3), TOLD_TWICE, (4, 5, 1), (3, 7, 9, 8)])
@pytest.mark.parametrize("torn", [b"", b'{"step": 4'])
def test_checksums_are_those_of_the_records(steps, torn):
    content = b"".join(lines(*steps)) + torn
    records = {record.step: hash(record.checksum) for record in parse_steps(content, "log")}
    assert parse_checksums([*lines(*steps), *([torn] if torn else [])], "log") == records
    assert last_step(content) == (steps[-1] if steps else 0)


@pytest.mark.parametrize("line", [b"{\n", b"[1]\n", b'{"step": 1}\n', b"\xff\n", b'{"step": "x", "checksum": ""}\n'])
def test_a_damaged_line_is_named(line):
    with pytest.raises(CheckpointError, match="line 2 of 'log' is damaged"):
        parse_checksums([*lines(1), line], "log")


def test_gaps_are_found_between_records_and_before_the_first():
    assert find_gaps(parse_steps(b"".join(lines(1, 2, 5, 6)), "log")) == [(3, 4)]
    assert find_gaps(parse_steps(b"".join(lines(3)), "log")) == [(1, 2)]
    assert find_gaps([]) == []


@pytest.mark.parametrize("kind", ["a path", "a URL"])
def test_verify_holds_no_records_of_steps(kind, tmp_path, monkeypatch):
    storage = str(tmp_path) if kind == "a path" else "memory://verified"
    config = load_config(None, ["epochs=1", "global_batch_size=700", f"placement.storage={storage}"])
    a, b = (train(config.recipe, config.placement, name=name).run for name in "ab")
    monkeypatch.setattr(RunDirectory, "read_steps", None)
    verdict = verify(a, b)
    assert (verdict.same, verdict.first_difference, verdict.steps) == (True, None, 3)
