"""Getting to a Ray cluster: the one already connected to, a named one, or a private one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import ray

from distbp.backends.ray.internals import keep_stdout_clean, make_job_config
from distbp.backends.ray.private_cluster import PrivateRay
from distbp.errors import ClusterError
from distbp.group.tls import Certificates
from distbp.machine.deadline import within
from distbp.nn.kernels import inherited_variables
from distbp.text.sentences import first_line

CONNECT_TIMEOUT_S = 25.0
KNOCK_TIMEOUT_S = 5.0
_PRIVATE_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # nothing listens beyond loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's default of 15 yields to every other process
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning about accelerators
}
_QUIET_ENVIRONMENT = {"RAY_IGNORE_UNHANDLED_ERRORS": "1"}  # of a lost group nobody wants more than the first error
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS_FRAME = 4


class RayCluster:
    """The use of a Ray cluster. A process has one connection to Ray; all that use it at the same time share it."""

    _lock = threading.Lock()
    _current: _Connection | None = None

    def __init__(self, address: str | None, num_cpus: int):
        """Connect. address None means RAY_ADDRESS if set, else a private cluster with `num_cpus` CPUs.

        A connection that other code of this process has made is used as it is, and left as it is.

        Raises ClusterError if the cluster cannot be reached, or is not the one that is in use; ConfigError if Ray's
        encryption is set up by half.
        """
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if (certificates := Certificates.from_environment()) is not None:
            certificates.check()
        with RayCluster._lock:
            if not ray.is_initialized():
                RayCluster._current = _Connection(address, num_cpus)
            self._connection = RayCluster._current
            if self._connection is not None:
                self._connection.admit(address, num_cpus)

    @property
    def is_private(self) -> bool:
        """Whether the cluster was started for this process, on this machine alone."""
        return self._connection is not None and self._connection.is_private

    def close(self) -> None:
        """Disconnect, if the connection was made here and nothing else uses it; harmless when repeated."""
        with RayCluster._lock:
            connection, self._connection = self._connection, None
            if connection is not None and connection.dismiss() and RayCluster._current is connection:
                RayCluster._current = None


class _Connection:
    """A connection to Ray that cleans up what it started, and leaves the process as it was."""

    def __init__(self, address: str, num_cpus: int):
        self._address = address
        self._num_cpus = num_cpus
        self._num_users = 0
        self._private: PrivateRay | None = None
        self._before = _ProcessState.now()
        self._set_variables(_QUIET_ENVIRONMENT)
        keep_stdout_clean(True)
        try:
            if address == "local":
                self._set_variables(_PRIVATE_ENVIRONMENT)
                self._private = PrivateRay(num_cpus)
            else:
                _connect(address)
        except BaseException:
            self._restore(_ProcessState.now())
            raise
        self._connected = _ProcessState.now()

    def admit(self, address: str, num_cpus: int) -> None:
        """Count one more user. Raises ClusterError if it wants another cluster, or a larger private one."""
        if address != self._address:
            raise ClusterError(
                f"this process is connected to Ray at '{self._address}' for another run, and this one wants "
                f"'{address}'; start it in a process of its own, or when the other has ended"
            )
        if self.is_private and num_cpus > self._num_cpus:
            raise ClusterError(
                f"another run of this process has started a private Ray of {self._num_cpus} CPUs, and this one needs "
                f"{num_cpus}; call ray.init(num_cpus=...) before both, or start this one when the other has ended"
            )
        self._num_users += 1

    def dismiss(self) -> bool:
        """Count one user less; the last one disconnects, and True is returned."""
        self._num_users -= 1
        if self._num_users == 0:
            self._close()
        return self._num_users == 0

    @property
    def is_private(self) -> bool:
        """Whether this object started the cluster, on this machine alone."""
        return self._private is not None

    def _close(self) -> None:
        """Disconnect, and end a private cluster with all its files."""
        if self._private is not None:
            self._private.close()
        else:
            ray.shutdown()
        self._restore(self._connected)

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        """Set environment variables that are not set, until the connection ends."""
        os.environ.update({key: value for key, value in variables.items() if key not in os.environ})

    def _restore(self, connected: _ProcessState) -> None:
        """Leave the process as it was. connected: how Ray had left it."""
        keep_stdout_clean(False)
        self._before.restore(connected)


@dataclass(frozen=True)
class _ProcessState:
    """What connecting to Ray changes in this process, beside the connection."""

    environment: dict[str, str]
    log_level: int
    signal_handler: Any

    @classmethod
    def now(cls) -> Self:
        return cls(
            dict(os.environ),
            logging.getLogger("ray").level,
            signal.getsignal(signal.SIGTERM),
        )

    def restore(self, later: _ProcessState) -> None:
        """Undo what has changed up to `later`, except what was changed again since then."""
        for key in self.environment.keys() | later.environment.keys():
            before, after = self.environment.get(key), later.environment.get(key)
            if before != after == os.environ.get(key):
                _set_variable(key, before)
        if logging.getLogger("ray").level == later.log_level:
            logging.getLogger("ray").setLevel(self.log_level)
        is_theirs = signal.getsignal(signal.SIGTERM) is later.signal_handler is not self.signal_handler
        if is_theirs and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.signal_handler)


def _set_variable(key: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(key, None)
    else:
        os.environ[key] = value


def same_kernels() -> dict[str, Any]:
    """Return the options of actors and tasks that are to use the portable kernels if this process does."""
    variables = inherited_variables()
    return {"runtime_env": {"env_vars": variables}} if variables else {}


def count_cpus() -> int:
    """Return how many CPUs the cluster has that this process is connected to."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _connect(address: str) -> None:
    try:
        _check_kind(address)
        within(
            CONNECT_TIMEOUT_S,
            lambda: ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, job_config=make_job_config()
            ),
        )
    except ClusterError:
        raise
    except TimeoutError as error:
        raise _unreachable(address, str(error) or f"no answer from Ray within {CONNECT_TIMEOUT_S:.0f} s") from error
    except Exception as error:
        raise _unreachable(address, first_line(error)) from error


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(f"cannot reach the Ray cluster at '{address}': {reason}; check the address and that it is up")


def _check_kind(address: str) -> None:
    """Raise ClusterError or OSError unless Ray listens at the address.

    Ray itself takes 20 s and many lines to say that nothing listens there, and minutes if another program does.
    """
    if address.startswith(("http://", "https://")):
        raise ClusterError(
            f"'{address}' is the address of Ray's job server, for distbp submit; a driver joins Ray's own port: "
            "set placement.address or RAY_ADDRESS to HEAD:6379"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_TIMEOUT_S) as line:
        if Certificates.from_environment() is None:
            _expect_http2(line, address)


def _expect_http2(line: socket.socket, address: str) -> None:
    """Raise ClusterError unless the other end greets as gRPC does, which Ray speaks."""
    try:
        line.sendall(_HTTP2_GREETING)
        answer = line.recv(64)
    except TimeoutError:
        found = f"something that does not answer within {KNOCK_TIMEOUT_S:.0f} s"
    except ConnectionError:
        found = "something that hangs up"
    else:
        if len(answer) > 3 and answer[3] == _SETTINGS_FRAME:
            return
        found = (
            "a web server, perhaps Ray's dashboard"
            if answer.lstrip().startswith((b"HTTP/", b"<"))
            else "something else"
        )
    raise ClusterError(
        f"at '{address}' there is {found} and not a Ray cluster; "
        "set placement.address or RAY_ADDRESS to the port of ray start, HEAD:6379 where none was given"
    )
