"""A real server that speaks S3 (moto's), in a process of its own, behind a proxy that cuts and holds connections."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
START_TIMEOUT_S = 60.0
PROGRAM = """
import ctypes, threading
ctypes.CDLL(None).prctl(1, 9)  # ends with its parent, however that ends
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


@dataclass
class S3Server:
    """The server. address: host and port. Objects live in its memory, so they are gone when it is killed."""

    process: subprocess.Popen
    address: tuple[str, int]

    def stop(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@contextmanager
def start_server() -> Iterator[S3Server]:
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    too_late = threading.Timer(START_TIMEOUT_S, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        too_late.cancel()
        assert port, f"moto's server did not start within {START_TIMEOUT_S:.0f} s"
        yield S3Server(process, ("127.0.0.1", int(port)))
    finally:
        too_late.cancel()
        process.kill()
        process.communicate()


@dataclass
class Proxy:
    """Passes connections on to a server until told otherwise.

    is_down: new connections are closed at once. cut_after_bytes: bytes that clients may still send before every
    connection is cut, None for no limit. num_cut: connections cut or refused so far.
    """

    target: tuple[str, int]
    is_down: bool = False
    cut_after_bytes: int | None = None
    num_cut: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Cut all connections and refuse new ones."""
        self.is_down = True
        self._cut_all()

    def mend(self) -> None:
        self.is_down, self.cut_after_bytes = False, None

    def close(self) -> None:
        self.is_down = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut_all()
        self._thread.join(5)

    def _cut_all(self) -> None:
        with self._lock:
            self.num_cut += len(self._open) // 2
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                self.num_cut += 1
                client.close()
                continue
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        for source, sink, counts in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._pump, args=(source, sink, counts), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if counts and not self._allow(len(data)):
                    self.cut()
                    break
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _allow(self, num_bytes: int) -> bool:
        if self.cut_after_bytes is None:
            return True
        self.cut_after_bytes -= num_bytes
        return self.cut_after_bytes >= 0
