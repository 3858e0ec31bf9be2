"""Encrypted lines between nodes, with the certificates that Ray is told to use: RAY_USE_TLS and its three files.

Both ends show a certificate of the same authority. The group's secret is then proved together with both certificates,
so that nobody in between, with a certificate of its own, can pass the proof on.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from distbp.errors import ConfigError

SWITCH = "RAY_USE_TLS"
FILES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
RENEWAL_S = 5.0
"""Seconds in which certificate and key may be out of step, while they are being renewed."""
_PIECE = 1 << 18  # bytes that are encrypted at a time: a core's cache holds them
_POLL_S = 0.1


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: this node's certificate and its key, and the authority that signs all certificates."""

    certificate: str
    key: str
    authority: str

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Self | None:
        """Return what Ray's variables name; None where they ask for no encryption.

        Raises ConfigError where they contradict each other: then nobody could say whether lines are encrypted.
        """
        switch, named = variables.get(SWITCH), [name for name in FILES if variables.get(name)]
        if switch is None and named:
            raise ConfigError(
                f"{named[0]} is set and {SWITCH} is not; set {SWITCH}=1 on every node to encrypt, or {SWITCH}=0 to "
                "send in the clear"
            )
        if (switch or "0").lower() not in ("1", "true"):
            return None
        missing = [name for name in FILES if name not in named]
        if missing:
            are = "is" if len(missing) == 1 else "are"
            raise ConfigError(
                f"{SWITCH}={switch}, but {' and '.join(missing)} {are} not set; nothing is sent in the clear instead: "
                f"set {', '.join(FILES)}, or {SWITCH}=0"
            )
        for name in FILES:
            _check_readable(name, variables[name])
        return cls(*(variables[name] for name in FILES))

    def encrypt(self, connected: socket.socket, is_caller: bool, timeout_s: float) -> EncryptedSocket:
        """Return the encrypted form of a connection, both ends verified; files are read anew, so renewed ones count.

        Raises OSError (ssl.SSLError) if the other end has no valid certificate, ConfigError if this one has none.
        """
        context, own = self._context(is_caller)
        connected.settimeout(timeout_s)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = context.wrap_bio(incoming, outgoing, server_side=not is_caller)
        encrypted = EncryptedSocket(connected, engine, incoming, outgoing, own)
        encrypted.shake_hands()
        return encrypted

    def check(self) -> None:
        """Raise ConfigError unless the files are certificates that this node can use."""
        self._context(is_caller=True)

    def _context(self, is_caller: bool) -> tuple[ssl.SSLContext, bytes]:
        deadline = time.monotonic() + RENEWAL_S
        while True:
            try:
                return self._load(is_caller)
            except (OSError, ValueError) as error:  # ssl.SSLError too; ValueError: no certificate in the file
                if time.monotonic() > deadline:
                    files = ", ".join(f"{name}={path}" for name, path in zip(FILES, self._paths, strict=True))
                    raise ConfigError(f"the certificates cannot be used: {error} ({files})") from None
                time.sleep(_POLL_S)

    def _load(self, is_caller: bool) -> tuple[ssl.SSLContext, bytes]:
        """Return a context of this moment's files, and this node's certificate in DER form."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if is_caller else ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # `bind` says who it is, whatever names the certificates have
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.authority)
        own = _first_certificate(self.certificate)
        context.load_cert_chain(self.certificate, self.key)
        if _first_certificate(self.certificate) != own:
            raise OSError("it is being renewed")
        return context, own

    @property
    def _paths(self) -> tuple[str, str, str]:
        return self.certificate, self.key, self.authority


class EncryptedSocket:
    """A connection whose bytes are encrypted. One thread may send while another receives.

    Has what a Link asks of a socket. Python's own encrypted sockets do not allow two threads at a time.
    """

    def __init__(
        self,
        connected: socket.socket,
        engine: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        own_certificate: bytes,
    ):
        """own_certificate: what this end shows, in DER form."""
        self._own_certificate = own_certificate
        self._socket = connected
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()  # of engine and buffers; never held while waiting for the network

    @property
    def family(self) -> socket.AddressFamily:
        """Of the connection."""
        return socket.AddressFamily(self._socket.family)

    def bind(self, secret: bytes, is_caller: bool) -> bytes:
        """Return the secret joined with the certificates of both ends. Raises OSError if the other has shown none."""
        own, other = self._own_certificate, self._engine.getpeercert(binary_form=True)
        if other is None:
            raise OSError("the other end has shown no certificate")
        caller, called = (own, other) if is_caller else (other, own)
        return hashlib.sha256(secret + hashlib.sha256(caller).digest() + hashlib.sha256(called).digest()).digest()

    def shake_hands(self) -> None:
        """Agree on keys with the other end, and verify each other."""
        while True:
            try:
                self._engine.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                self._flush()  # so that the other end hears why
                raise
            else:
                self._flush()
                return

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE):
            with self._lock:
                self._engine.write(view[start : start + _PIECE])
                encrypted = self._outgoing.read()
            self._socket.sendall(encrypted)

    def recv_into(self, buffer: memoryview) -> int:
        """Wait for some bytes and return how many; 0: the other end has closed the connection."""
        while True:
            with self._lock:
                count = self._decrypt_into(buffer)
            if count is not None:
                return count
            if not self._fill():
                return 0

    def _decrypt_into(self, buffer: memoryview) -> int | None:
        """Decrypt what has come; returns how many bytes, 0 at the end of the connection, None if nothing has come."""
        count = 0
        try:
            while count < len(buffer):  # one call decrypts 16 KiB at most
                count += int(self._engine.read(len(buffer) - count, buffer[count:]))
        except ssl.SSLWantReadError:
            return count or None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return count
        return count

    def settimeout(self, timeout_s: float | None) -> None:
        """Let waiting take at most so long."""
        self._socket.settimeout(timeout_s)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the connection."""
        self._socket.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """End the connection for both ends."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Give the connection back."""
        self._socket.close()

    def _fill(self) -> bool:
        """Wait for encrypted bytes; returns False if the connection has ended."""
        data = self._socket.recv(_PIECE)
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
        return bool(data)

    def _flush(self) -> None:
        with self._lock:
            encrypted = self._outgoing.read()
        if encrypted:
            self._socket.sendall(encrypted)


def _first_certificate(path: str) -> bytes:
    """Return the first certificate of a PEM file in DER form. Raises OSError, or ValueError if there is none."""
    text, end = Path(path).read_text(), "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") : text.index(end) + len(end)])


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{name}={path} cannot be read: {error.strerror}; {SWITCH}=0 sends in the clear") from None
