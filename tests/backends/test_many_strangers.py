"""Many strangers at a member's listeners, and strangers of another user: none keeps a member out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from distbp.group import reception
from distbp.group.links import CAN_SHARE, Link, Switchboard, call
from distbp.group.reception import is_of_this_user

SECRET = b"only for this test"
NUM_STRANGERS = 300
"""More than may show who they are at a time, and than a listener's queue holds."""
NOBODY = 65534
VISITOR = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
visitor = socket.socket(socket.AF_UNIX)
visitor.settimeout(20)
visitor.connect("\\0" + sys.argv[2])
print("answered" if visitor.recv(1) else "refused")
"""


@pytest.fixture
def board() -> Iterator[Switchboard]:
    board = Switchboard("127.0.0.1", SECRET)
    yield board
    board.close()


def visit(board: Switchboard, kind: str, stack: ExitStack, says: bytes) -> None:
    """Call, say something that is not the secret, and stay; without waiting where the queue is full."""
    stranger = stack.enter_context(socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET))
    stranger.setblocking(False)
    with suppress(BlockingIOError):
        stranger.connect(board.addresses[kind])
        stranger.sendall(says)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("says", [b"", b"\x14\0\0\0\0\0\0\0x"])
def test_handshakes_in_parallel_that_never_finish_keep_no_member_out(board, kind, says):
    """One after the other they would take 15 minutes."""
    if kind not in board.addresses:
        pytest.skip("no Unix sockets without files here")
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        for _ in range(NUM_STRANGERS):
            visit(board, kind, stack, says)
        accepted = pool.submit(board.accept, kind, 60.0)
        link = call(board.addresses[kind], SECRET, 60.0)
        link.send("here")
        answered = accepted.result(timeout=90)
        assert answered.receive() == "here"
        answered.close()
        link.close()


@pytest.mark.slow
def test_strangers_that_keep_coming_keep_no_member_out(board):
    is_over = threading.Event()

    def keep_coming(stack: ExitStack) -> None:
        for _ in range(3 * NUM_STRANGERS):
            if not is_over.wait(0.002):
                visit(board, "tcp", stack, b"")

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        coming = pool.submit(keep_coming, stack)
        for _ in range(5):
            accepted = pool.submit(board.accept, "tcp", 60.0)
            link = call(board.addresses["tcp"], SECRET, 60.0)
            accepted.result(timeout=90).close()
            link.close()
        is_over.set()
        coming.result(timeout=90)


def test_who_takes_too_long_in_all_is_turned_away_however_often_it_speaks(board, monkeypatch):
    monkeypatch.setattr(reception, "PATIENCE_S", 0.3)
    with ThreadPoolExecutor(1) as pool, socket.create_connection(board.addresses["tcp"]) as stranger:
        accepted = pool.submit(board.accept, "tcp", 60.0)
        stranger.settimeout(60)
        with suppress(ConnectionError):
            while stranger.recv(4096):
                stranger.sendall(b"\x01")
        board.cut()
        with pytest.raises(OSError, match="nobody will call any more"):
            accepted.result(timeout=60)


def test_as_many_as_there_is_room_for_may_be_slow_while_nobody_else_waits(board, monkeypatch):
    monkeypatch.setattr(reception, "MAX_CALLERS", 4)
    monkeypatch.setattr(reception, "YIELD_S", 0.1)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        callers = [stack.enter_context(socket.create_connection(board.addresses["tcp"])) for _ in range(4)]
        accepted = pool.submit(board.accept, "tcp", 60.0)
        for caller in callers:
            caller.settimeout(0.2)
            caller.recv(4096)  # the challenge
        for caller in callers:
            with pytest.raises(TimeoutError):  # not the end of the connection
                caller.recv(4096)
        board.cut()
        with pytest.raises(OSError, match="nobody will call any more"):
            accepted.result(timeout=60)


def test_who_has_shown_who_they_are_while_nobody_asked_is_handed_out_later(board):
    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(call, board.addresses["tcp"], SECRET, 60.0) for _ in range(3)]
        links = [board.accept("tcp", 60.0) for _ in range(3)]
        links += [caller.result(timeout=60) for caller in callers]
    assert all(isinstance(link, Link) for link in links)
    for link in links:
        link.close()


def test_where_no_member_is_far_nothing_listens_on_the_network():
    if not CAN_SHARE:
        pytest.skip("members of one node share no memory here")
    board = Switchboard(None, SECRET)
    assert set(board.addresses) == {"unix"}
    board.close()


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="no peer credentials here")
def test_a_process_of_this_user_is_one():
    here, there = socket.socketpair()
    assert is_of_this_user(here)
    here.close()
    there.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="takes root, to be another user as well")
def test_a_process_of_another_user_is_refused_before_a_word(board):
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "unix", 60.0)
        visitor = [sys.executable, "-ISc", VISITOR, str(NOBODY), board.addresses["unix"][1:]]
        done = subprocess.run(visitor, capture_output=True, text=True, timeout=60, check=False)
        link = call(board.addresses["unix"], SECRET, 60.0)
        accepted.result(timeout=60).close()
        link.close()
    assert done.stdout == "refused\n", done.stderr
