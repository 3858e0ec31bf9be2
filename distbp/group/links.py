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
import time
from contextlib import suppress
from multiprocessing.connection import answer_challenge, deliver_challenge
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.group.reception import Reception
from distbp.group.tls import Certificates, EncryptedSocket
from distbp.group.words import MAX_BYTES, decode, encode

_LENGTH = struct.Struct("<Q")
BACKLOG = 4096
"""Members that may wait for one to take their call; the kernel allows less where net.core.somaxconn says so."""
CALL_AGAIN_S = 0.01
HANDSHAKE_S = 3.0
"""How long a caller may take over each word that shows who it is: strangers must not hold up the members."""

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
    """A connection between two members, both of them authenticated.

    Between nodes messages are text, which runs no code whoever has changed it on its way. On one node they are pickled.

    Every call may raise OSError (also TimeoutError) or EOFError when the other end is gone or silent.
    """

    def __init__(self, connected: socket.socket | EncryptedSocket, timeout_s: float):
        self._socket = connected
        self._socket.settimeout(timeout_s)
        self._is_far = self._socket.family != socket.AF_UNIX
        if self._is_far:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def be_patient(self, timeout_s: float) -> None:
        """Wait from now on up to `timeout_s` seconds for the other end."""
        self._socket.settimeout(timeout_s)

    @classmethod
    def over(
        cls,
        connected: socket.socket,
        secret: bytes,
        timeout_s: float,
        certificates: Certificates | None,
        is_caller: bool,
    ) -> Self:
        """Return a link whose other end knows the secret too, encrypted where there are certificates.

        A caller is given HANDSHAKE_S at most for each word until it has shown who it is.
        Raises OSError, EOFError or AuthenticationError if the other end does not; the connection is closed then.
        """
        line: socket.socket | EncryptedSocket = connected
        handshake_s = timeout_s if is_caller else min(timeout_s, HANDSHAKE_S)
        try:
            if certificates is not None:
                line = encrypted = certificates.encrypt(connected, is_caller, handshake_s)
                secret = encrypted.bind(secret, is_caller)
            link = cls(line, handshake_s)
            link.authenticate(secret, is_caller)
            link.be_patient(timeout_s)
        except BaseException:
            connected.close()
            raise
        return link

    def authenticate(self, secret: bytes, is_caller: bool) -> None:
        """Prove the secret and have it proved. Raises AuthenticationError if the other end has another one."""
        if is_caller:
            answer_challenge(self, secret)  # type: ignore[arg-type]  # a Link speaks what it needs
            deliver_challenge(self, secret)  # type: ignore[arg-type]
        else:
            deliver_challenge(self, secret)  # type: ignore[arg-type]
            answer_challenge(self, secret)  # type: ignore[arg-type]

    def send(self, message: Any) -> None:
        """Send one small object."""
        data = encode(message) if self._is_far else pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """Wait for one object."""
        data = self.recv_bytes(MAX_BYTES)
        return decode(data) if self._is_far else pickle.loads(data)

    def send_bytes(self, data: bytes) -> None:
        """Send a short message as it is; this and `recv_bytes` are what multiprocessing's authentication speaks."""
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def recv_bytes(self, max_length: int) -> bytes:
        """Wait for what `send_bytes` sent. Raises OSError if it is longer than `max_length`."""
        header = bytearray(_LENGTH.size)
        self._fill(memoryview(header))
        (length,) = _LENGTH.unpack(header)
        if length > max_length:
            raise OSError(f"a message of {length} bytes, expected at most {max_length}")
        data = bytearray(length)
        self._fill(memoryview(data))
        return bytes(data)

    def send_array(self, array: NDArray) -> None:
        """Send the bytes of a contiguous array; the receiver knows its size."""
        self._socket.sendall(_bytes_of(array))

    def receive_into(self, array: NDArray) -> None:
        """Wait until `array`, contiguous, is filled."""
        self._fill(_bytes_of(array))

    def send_memory(self, memory: SharedMemory) -> None:
        """Let the other end, a process of this node, map `memory`."""
        assert isinstance(self._socket, socket.socket)  # of one node, where nothing is encrypted
        socket.send_fds(self._socket, [_LENGTH.pack(memory.array.size)], [memory.descriptor])

    def receive_memory(self, dtype: DTypeLike) -> SharedMemory:
        """Map what the other end sent with `send_memory`."""
        assert isinstance(self._socket, socket.socket)
        data, descriptors, _, _ = socket.recv_fds(self._socket, _LENGTH.size, 1)
        if not descriptors:
            raise EOFError("the other end closed the connection")
        return SharedMemory(_LENGTH.unpack(data)[0], dtype, descriptors[0])

    def cut(self) -> None:
        """End the connection: the other end and every thread that waits on this one see it at once."""
        with suppress(OSError):  # the other end was faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and give its descriptor back, which no other thread may be using."""
        self.cut()
        self._socket.close()

    def _fill(self, buffer: memoryview) -> None:
        while buffer:
            count = self._socket.recv_into(buffer)
            if count == 0:
                raise EOFError("the other end closed the connection")
            buffer = buffer[count:]


class Switchboard:
    """Where other members call: a Unix socket without a file for those of this node, TCP for all others.

    With certificates TCP is encrypted, and its address is called "tls": who does not encrypt finds none to call.
    """

    def __init__(self, ip: str | None, secret: bytes, certificates: Certificates | None = None):
        """ip: where members of other nodes call; None where there are none: then nothing listens on the network."""
        self._secret = secret
        self.certificates = certificates
        self._wakened, self._waker = socket.socketpair()
        self.addresses: dict[str, Any] = {}
        self._receptions: dict[str, Reception[Link]] = {}
        if ip is not None:
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            listener = socket.create_server((ip, 0), family=family, backlog=BACKLOG)
            self.addresses[far_kind(certificates)] = listener.getsockname()[:2]
            self._receptions["tcp"] = Reception(listener, lambda caller: self._welcome(caller, certificates))
        if CAN_SHARE:
            self.addresses["unix"] = f"\0distbp-{os.getpid()}-{os.urandom(8).hex()}"
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.addresses["unix"])
            listener.listen(BACKLOG)
            self._receptions["unix"] = Reception(listener, lambda caller: self._welcome(caller, None))

    def accept(self, kind: str, timeout_s: float) -> Link:
        """Wait for a member to call by "unix" or "tcp"; callers without the secret are turned away.

        Strangers hold up nobody (see Reception). Raises TimeoutError when nobody calls in time, OSError after `cut`.
        """
        link = self._receptions[kind].receive(timeout_s, self._wakened)
        link.be_patient(timeout_s)
        return link

    def _welcome(self, caller: socket.socket, certificates: Certificates | None) -> Link:
        return Link.over(caller, self._secret, HANDSHAKE_S, certificates, is_caller=False)

    def cut(self) -> None:
        """Let a thread that waits for a call see that none will come. Any thread may call this, also after `close`."""
        with suppress(OSError):
            self._waker.send(b"!")

    def close(self) -> None:
        """Take no more calls."""
        for reception in self._receptions.values():
            reception.close()
        self._wakened.close()
        self._waker.close()


def far_kind(certificates: Certificates | None) -> str:
    """Return what the address for members of other nodes is called."""
    return "tcp" if certificates is None else "tls"


def call(address: Any, secret: bytes, timeout_s: float, certificates: Certificates | None = None) -> Link:
    """Connect to another member's switchboard. certificates: with which the line is encrypted; None: it is not.

    Raises OSError if nobody answers or the other's certificate is not good, AuthenticationError if the secret is not
    the other's.
    """
    if isinstance(address, str):
        return Link.over(_connect_unix(address, timeout_s), secret, timeout_s, None, is_caller=True)
    return Link.over(_connect_tcp(address, timeout_s), secret, timeout_s, certificates, is_caller=True)


def _connect_tcp(address: tuple[str, int], timeout_s: float) -> socket.socket:
    return socket.create_connection(address, timeout=timeout_s)


def _connect_unix(address: str, timeout_s: float) -> socket.socket:
    """Connect to a member of this node; where strangers have filled its queue, try again until it is emptied."""
    connected = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + timeout_s
    try:
        connected.settimeout(timeout_s)
        while not _has_connected(connected, address):
            if time.monotonic() > deadline:
                raise TimeoutError("too many others call the same member")
            time.sleep(CALL_AGAIN_S)
    except OSError:
        connected.close()
        raise
    return connected


def _has_connected(caller: socket.socket, address: str) -> bool:
    """Connect, unless as many as the kernel lets wait are waiting already: a Unix socket does not wait for its turn."""
    try:
        caller.connect(address)
    except BlockingIOError:
        return False
    return True


def _bytes_of(array: NDArray) -> memoryview:
    view: memoryview = array.data.cast("B")
    return view
