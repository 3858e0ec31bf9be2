"""Messages between nodes are text: they keep every bit, and reading one runs no code."""

from __future__ import annotations

import math
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.group.links import Switchboard, call
from distbp.group.partials import PartialsHeader
from distbp.group.words import decode, encode
from distbp.protocol.messages import InnerStep, StepReport

REPORT = StepReport(7, 1, 0.1 + 0.2, 40, "00ff" * 4, True, 0.5, 1e-9, 0.25, 0.125)


@given(st.lists(st.floats(allow_nan=False), max_size=5))
def test_floats_keep_their_bits(values):
    assert [struct.pack("d", value) for value in decode(encode(values))] == [struct.pack("d", v) for v in values]


def test_losses_that_are_no_numbers_arrive():
    found = decode(encode([math.nan, math.inf, -math.inf]))
    assert math.isnan(found[0])
    assert found[1:] == (math.inf, -math.inf)


@pytest.mark.parametrize(
    "message",
    [
        *(3, True, False, "text", np.float32(0.1), np.int64(7)),
        REPORT,
        PartialsHeader(((0, 2, 1.5, 80, ()), (2, 3, 0.1, 40, (InnerStep(0.5, 3, 0.1, ("ab",)),))), (0, 4), 0.01, 0.0),
    ],
)
def test_what_members_say_arrives_as_it_was(message):
    assert decode(encode(message)) == message
    assert type(decode(encode(message))) is type(message)


@pytest.mark.parametrize("message", [object(), {1, 2}, b"bytes", pickle])
def test_nothing_else_is_said(message):
    with pytest.raises(TypeError, match="a member says no"):
        encode(message)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_what_is_no_message_is_a_broken_line(data):
    try:
        decode(data)
    except OSError as error:
        assert "cannot be read" in str(error)  # noqa: PT017 - or it is a message


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a message from the network ran code",))


@pytest.mark.parametrize(
    "sent",
    [
        pickle.dumps(Bomb()),
        b'{"kind":"Popen","args":["true"]}',
        b'{"kind":"StepReport"}',
        b'{"kind":["StepReport"]}',
        b"[" * 100_000,
    ],
)
def test_what_somebody_puts_on_a_line_between_nodes_ends_the_line_and_runs_nothing(sent):
    board = Switchboard("127.0.0.1", b"secret")
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", 5.0)
        link = call(board.addresses["tcp"], b"secret", 5.0)
        answered = accepted.result(timeout=5)
        link.send_bytes(sent)
        with pytest.raises(OSError, match="a message that cannot be read"):
            answered.receive()
    for part in (link, answered, board):
        part.close()


def test_a_message_longer_than_any_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("distbp.group.links.MAX_BYTES", 100)
    board = Switchboard("127.0.0.1", b"secret")
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", 5.0)
        link = call(board.addresses["tcp"], b"secret", 5.0)
        answered = accepted.result(timeout=5)
        link.send_bytes(bytes(101))
        with pytest.raises(OSError, match="a message of 101 bytes"):
            answered.receive()
    for part in (link, answered, board):
        part.close()
