"""Strangers at a member's listener: who does not know the group's secret gets nothing and holds up nobody for long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from distbp.group import links
from distbp.group.links import Switchboard, call

SECRET = b"only for this test"


@pytest.fixture
def board() -> Iterator[Switchboard]:
    board = Switchboard("127.0.0.1", SECRET)
    yield board
    board.close()


class Recorder:
    """Stands between a caller and a switchboard, and keeps what the caller says."""

    def __init__(self, target: tuple[str, int]):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()[:2]
        self.said = bytearray()
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._relay, args=[target], daemon=True)
        self._thread.start()

    def _relay(self, target: tuple[str, int]) -> None:
        caller, _ = self._listener.accept()
        member = socket.create_connection(target)
        self._ends += [caller, member]
        back = threading.Thread(target=self._pass_on, args=[member, caller, None], daemon=True)
        back.start()
        self._pass_on(caller, member, self.said)
        back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if record is not None:
                    record.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._thread.join(10)
        for end in (self._listener, *self._ends):
            end.close()


def test_a_handshake_that_was_recorded_does_not_open_the_door_again(board):
    recorder = Recorder(board.addresses["tcp"])
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", 20.0)
        call(recorder.address, SECRET, 20.0).close()
        accepted.result(timeout=30).close()
        recorder.close()
        assert len(recorder.said) > 40
        again = pool.submit(board.accept, "tcp", 2.0)
        with socket.create_connection(board.addresses["tcp"]) as stranger:
            stranger.sendall(recorder.said)
            with pytest.raises(TimeoutError):
                again.result(timeout=30)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("says", [b"", b"\x04", b"\xff" * 8])
def test_silent_and_slow_strangers_are_dropped_before_a_member_counts_as_late(board, monkeypatch, kind, says):
    if kind not in board.addresses:
        pytest.skip("no Unix sockets without files here")
    monkeypatch.setattr(links, "HANDSHAKE_S", 0.2)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
            stranger = stack.enter_context(socket.socket(family))
            stranger.connect(board.addresses[kind])
            stranger.sendall(says)
        accepted = pool.submit(board.accept, kind, 60.0)
        link = call(board.addresses[kind], SECRET, 60.0)
        link.send("here")
        answered = accepted.result(timeout=90)
        assert answered.receive() == "here"
        answered.close()
        link.close()
