"""Getting to a Ray cluster: the one already connected to, a named one, or a private one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

import ray

from distbp.backends.deadline import within
from distbp.backends.ray_alone import PrivateRay
from distbp.backends.ray_internals import keep_stdout_clean
from distbp.errors import ClusterError

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
    """A connection to Ray that cleans up what it started, and only that."""

    def __init__(self, address: str | None, num_cpus: int):
        """Connect. address None means RAY_ADDRESS if set, else a private cluster with `num_cpus` CPUs.

        Raises ClusterError if the cluster cannot be reached.
        """
        self._is_ours = not ray.is_initialized()
        self._private: PrivateRay | None = None
        self._set: dict[str, str] = {}
        if not self._is_ours:
            return
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        try:
            self._set_variables(_QUIET_ENVIRONMENT)
            keep_stdout_clean(True)
            if address == "local":
                self._set_variables(_PRIVATE_ENVIRONMENT)
                self._private = PrivateRay(num_cpus)
            else:
                _connect(address)
        except BaseException:
            self._is_ours = False  # there is nothing to disconnect from
            self._restore()
            raise

    @property
    def is_private(self) -> bool:
        """Whether this object started the cluster, on this machine alone."""
        return self._private is not None

    def close(self) -> None:
        """Disconnect if this object connected, and end a private cluster with all its files."""
        if not self._is_ours:
            return
        self._is_ours = False
        if self._private is not None:
            self._private.close()
        else:
            ray.shutdown()
        self._restore()

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        """Set environment variables that are not set, until `close`."""
        added = {key: value for key, value in variables.items() if key not in os.environ}
        os.environ.update(added)
        self._set |= added

    def _restore(self) -> None:
        keep_stdout_clean(False)
        for key in self._set:
            os.environ.pop(key, None)


def count_cpus() -> int:
    """Return how many CPUs the cluster has that this process is connected to."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _connect(address: str) -> None:
    try:
        _check_kind(address)
        within(CONNECT_TIMEOUT_S, lambda: ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR))
    except ClusterError:
        raise
    except TimeoutError as error:
        raise _unreachable(address, str(error) or f"no answer from Ray within {CONNECT_TIMEOUT_S:.0f} s") from error
    except Exception as error:
        raise _unreachable(address, (str(error).splitlines() or [type(error).__name__])[0]) from error


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(f"cannot reach the Ray cluster at '{address}': {reason}; check the address and that it is up")


def _check_kind(address: str) -> None:
    """Raise ClusterError or OSError where nobody listens, or something other than Ray.

    Ray itself takes 20 s and many lines to say that nobody is there, and minutes where something else is.
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
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
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
