"""Logs are read line by line as they grow, however they are written, and never whole when they are long."""

from __future__ import annotations

from itertools import pairwise

import pytest

from distbp.run.records import STEPS_FILE
from distbp.watch import log_tail
from distbp.watch.log_tail import LogTail


@pytest.fixture
def tail(run):
    return LogTail(run.folder, STEPS_FILE)


def test_every_line_is_told_once_and_a_torn_one_when_it_is_whole(run, tail):
    assert tail.read().lines == ()
    run.folder.write(STEPS_FILE, b'{"step": 1}\n{"step": 2}\n{"st')
    assert tail.read().lines == (b'{"step": 1}', b'{"step": 2}')
    assert tail.read().lines == ()
    run.folder.append(STEPS_FILE, b'ep": 3}\n')
    news = tail.read()
    assert (news.lines, news.is_restart) == ((b'{"step": 3}',), False)


def test_a_log_that_was_truncated_is_read_anew(run, tail, make_line):
    lines = [make_line(step) for step in range(1, 30)]
    run.folder.write(STEPS_FILE, b"".join(lines))
    tail.read()
    run.folder.write(STEPS_FILE, b"".join(lines[:20]))
    news = tail.read()
    assert news.is_restart
    assert len(news.lines) == 20


def test_a_log_that_was_replaced_is_noticed_even_where_it_has_grown_longer(run, tail, make_line):
    lines = [make_line(step) for step in range(1, 30)]
    run.folder.write(STEPS_FILE, b"".join(lines))
    tail.read()
    again = [*lines[:20], *[make_line(step) for step in range(21, 40)]]
    run.folder.write(STEPS_FILE, b"".join(again))
    news = tail.read()
    assert news.is_restart
    assert [line + b"\n" for line in news.lines] == again


def test_of_a_long_log_only_both_ends_and_samples_in_between_are_read(run, tail, make_line, monkeypatch):
    for name, value in {"WHOLE_BYTES": 20_000, "END_BYTES": 4_000, "SAMPLE_BYTES": 600, "NUM_SAMPLES": 10}.items():
        monkeypatch.setattr(log_tail, name, value)
    lines = [make_line(step) for step in range(1, 2001)]
    run.folder.write(STEPS_FILE, b"".join(lines))
    asked, read_range = [], run.folder.read_range

    def count(name, start, stop):
        asked.append(stop - start)
        return read_range(name, start, stop)

    monkeypatch.setattr(run.folder, "read_range", count)
    monkeypatch.setattr(run.folder, "read", None)
    told = tail.read().lines
    assert sum(asked) < 20_000 < sum(map(len, lines)) / 10
    numbers = [lines.index(line + b"\n") for line in told]  # all of them are whole lines
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, 1999)
    assert max(b - a for a, b in pairwise(numbers)) < 300
    asked.clear()
    run.folder.write(STEPS_FILE, b"".join([*lines, make_line(2001)]))
    assert len(tail.read().lines) == 1
    assert sum(asked) < 1000


def test_a_log_that_grew_by_much_since_the_last_look_is_sampled_too(run, tail, make_line, monkeypatch):
    for name, value in {"WHOLE_BYTES": 20_000, "END_BYTES": 4_000, "SAMPLE_BYTES": 600, "NUM_SAMPLES": 10}.items():
        monkeypatch.setattr(log_tail, name, value)
    run.folder.write(STEPS_FILE, make_line(1))
    tail.read()
    run.folder.append(STEPS_FILE, b"".join(make_line(step) for step in range(2, 2001)))
    news = tail.read()
    assert not news.is_restart
    assert 20 < len(news.lines) < 200
