"""Calls at one listener: many callers at a time show who they are, so that strangers keep no member out."""

from __future__ import annotations

import multiprocessing.connection
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from typing import Generic, Protocol, TypeVar

from distbp.errors import DistbpError

MAX_CALLERS = 128
"""How many may be showing who they are at the same time."""
YIELD_S = 3.0
"""A caller who has taken so long makes room for another where there are MAX_CALLERS."""
PATIENCE_S = 10.0
"""How long a caller may take in all."""
_POLL_S = 0.1
_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Closable(Protocol):
    """What a caller becomes."""

    def close(self) -> None:
        """End the connection."""


T = TypeVar("T", bound=Closable)


class Reception(Generic[T]):
    """Takes calls and hands out those that have shown who they are, in the order in which they did so."""

    def __init__(self, listener: socket.socket, welcome: Callable[[socket.socket], T]):
        """welcome: returns what a caller becomes, or closes the connection and raises; has a thread for each caller."""
        self._listener = listener
        self._welcome = welcome
        self._lock = threading.Lock()
        self._callers: dict[socket.socket, float] = {}  # since when
        self._welcomed: deque[T | DistbpError] = deque()
        self._is_closed = False
        self._bell, self._button = socket.socketpair()

    def receive(self, timeout_s: float, stop: socket.socket) -> T:
        """Wait for the next caller who has shown who they are.

        Raises TimeoutError if there is none in time, OSError as soon as `stop` can be read, and what `welcome` says
        about this end.
        """
        deadline = time.monotonic() + timeout_s
        while not self._welcomed:
            now = time.monotonic()
            self._end_late(now)
            wait_s = min(_POLL_S, deadline - now) if self._callers else deadline - now
            ready = multiprocessing.connection.wait(self._doors(stop), max(0.0, wait_s))
            if stop in ready:
                raise OSError("nobody will call any more")
            if self._bell in ready:
                self._bell.recv(1)
            if self._listener in ready:
                self._take()
            if not ready and now >= deadline:
                raise TimeoutError("nobody called")
        found = self._welcomed.popleft()
        if isinstance(found, DistbpError):
            raise found
        return found

    def close(self) -> None:
        """Take no more calls, and turn away who has not been handed out."""
        with self._lock:
            self._is_closed = True
            for caller in self._callers:
                _cut(caller)
            for left in self._welcomed:
                if not isinstance(left, DistbpError):
                    left.close()
            self._welcomed.clear()
            for end in (self._listener, self._bell, self._button):
                end.close()

    def _doors(self, stop: socket.socket) -> list[socket.socket]:
        has_room = len(self._callers) < MAX_CALLERS
        return [stop, self._bell, self._listener] if has_room else [stop, self._bell]

    def _take(self) -> None:
        """Let the next caller show who they are."""
        caller = self._listener.accept()[0]
        if not is_of_this_user(caller):
            caller.close()
            return
        with self._lock:
            self._callers[caller] = time.monotonic()
        threading.Thread(target=self._hear, args=[caller], name="distbp-reception", daemon=True).start()

    def _hear(self, caller: socket.socket) -> None:
        found: T | DistbpError | None = None
        try:
            with suppress(AuthenticationError, AssertionError, EOFError, OSError):
                found = self._welcome(caller)
        except DistbpError as error:
            found = error
        with self._lock:
            self._callers.pop(caller, None)
            if self._is_closed:
                if found is not None and not isinstance(found, DistbpError):
                    found.close()
                return
            if found is not None:
                self._welcomed.append(found)
            self._button.send(b"!")

    def _end_late(self, now: float) -> None:
        """Turn away who takes too long; where others wait and there is no room, the one who came first, sooner."""
        with self._lock:
            late = [caller for caller, since in self._callers.items() if now - since > PATIENCE_S]
            if not late and len(self._callers) >= MAX_CALLERS and self._somebody_waits():
                late = [caller for caller, since in self._callers.items() if now - since > YIELD_S][:1]
            for caller in late:
                _cut(caller)

    def _somebody_waits(self) -> bool:
        return bool(multiprocessing.connection.wait([self._listener], 0))


def is_of_this_user(caller: socket.socket) -> bool:
    """Return whether a process of this user is at the other end of a Unix socket; True where that cannot be told."""
    if caller.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return True
    found = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.geteuid())


def _cut(caller: socket.socket) -> None:
    """Let the thread that waits for a caller's words see the connection's end."""
    with suppress(OSError):
        caller.shutdown(socket.SHUT_RDWR)
