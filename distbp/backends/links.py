"""How members of a group reach each other: authenticated sockets, and memory that processes of one node share.

A wait on a socket sleeps in the kernel, so a member that waits leaves its core to one that computes. When a
process dies, the kernel closes its sockets and its peers know at once; shared memory is anonymous, so it goes
with the last process that maps it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LENGTH = struct.Struct("<Q")

CAN_SHARE = hasattr(os, "memfd_create") and hasattr(socket, "send_fds")
"""Whether processes of one node can share memory here; elsewhere they send copies."""


class SharedMemory:
    """Anonymous memory as an array (size,) of `dtype`, which another process can map from its file descriptor."""

    def __init__(self, size: int, dtype: DTypeLike, descriptor: int | None = None):
        """Make the memory, or map what `descriptor` names; pages take space only once they are written."""
        num_bytes = max(1, size * np.dtype(dtype).itemsize)
        self.descriptor = os.memfd_create("distbp") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, num_bytes)
        self.array: NDArray = np.frombuffer(mmap.mmap(self.descriptor, num_bytes), dtype, size)

    def close(self) -> None:
        """Give up the descriptor; the mapping ends with the last array that views it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Link:
    """A connection between two members. Objects are pickled: both ends are this program, and authenticated.

    Every call may raise OSError (also TimeoutError) or EOFError when the other end is gone or silent.
    """

    def __init__(self, connection: Connection, timeout_s: float):
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        connection.close()
        self._socket.setblocking(True)
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(timeout_s)

    def send(self, message: Any) -> None:
        """Send one small object."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """Wait for one object."""
        header = bytearray(_LENGTH.size)
        self._fill(memoryview(header))
        data = bytearray(_LENGTH.unpack(header)[0])
        self._fill(memoryview(data))
        return pickle.loads(data)

    def send_array(self, array: NDArray) -> None:
        """Send the bytes of a contiguous array; the receiver knows its size."""
        self._socket.sendall(_bytes_of(array))

    def receive_into(self, array: NDArray) -> None:
        """Wait until `array`, contiguous, is filled."""
        self._fill(_bytes_of(array))

    def send_memory(self, memory: SharedMemory) -> None:
        """Let the other end, a process of this node, map `memory`."""
        socket.send_fds(self._socket, [_LENGTH.pack(memory.array.size)], [memory.descriptor])

    def receive_memory(self, dtype: DTypeLike) -> SharedMemory:
        """Map what the other end sent with `send_memory`."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, _LENGTH.size, 1)
        if not descriptors:
            raise EOFError("the other end closed the connection")
        return SharedMemory(_LENGTH.unpack(data)[0], dtype, descriptors[0])

    def close(self) -> None:
        """Close this end; the other end sees it at once, and so do threads of this one that wait on it."""
        with suppress(OSError):  # the other end was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _fill(self, buffer: memoryview) -> None:
        while buffer:
            count = self._socket.recv_into(buffer)
            if count == 0:
                raise EOFError("the other end closed the connection")
            buffer = buffer[count:]


class Switchboard:
    """Where other members call: a Unix socket without a file for those of this node, TCP for all others."""

    def __init__(self, ip: str, secret: bytes):
        self._listeners = {"tcp": Listener((ip, 0), authkey=secret, backlog=128)}
        if CAN_SHARE:
            name = f"\0distbp-{os.getpid()}-{os.urandom(8).hex()}"
            self._listeners["unix"] = Listener(name, "AF_UNIX", authkey=secret, backlog=128)
        self.addresses = {kind: listener.address for kind, listener in self._listeners.items()}

    def accept(self, kind: str, timeout_s: float) -> Link:
        """Wait for a member to call by "unix" or "tcp"; callers without the secret are turned away."""
        while True:
            try:
                return Link(self._listeners[kind].accept(), timeout_s)
            except (AuthenticationError, EOFError, ConnectionError):
                continue

    def close(self) -> None:
        """Take no more calls."""
        for listener in self._listeners.values():
            listener.close()


def call(address: Any, secret: bytes, timeout_s: float) -> Link:
    """Connect to another member's switchboard."""
    return Link(Client(address, authkey=secret), timeout_s)


def _bytes_of(array: NDArray) -> memoryview:
    view: memoryview = array.data.cast("B")
    return view
