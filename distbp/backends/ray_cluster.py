"""Getting to a Ray cluster: the one already connected to, a named one, or a private one on this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import ray
from ray._private import ray_constants
from ray._private.ray_logging import stdout_deduplicator
from ray.job_config import JobConfig

from distbp.errors import ClusterError
from distbp.nn.kernels import inherited_variables

_PRIVATE_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # nothing listens beyond loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's default of 15 yields to every other process
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning about accelerators
}
_QUIET_ENVIRONMENT = {"RAY_IGNORE_UNHANDLED_ERRORS": "1"}  # of a lost group nobody wants more than the first error
MAX_TEMP_LENGTH = 24
"""Unix sockets' paths have at most 107 bytes, and Ray adds up to 64 below a folder whose own name has 19."""


class RayCluster:
    """Use of a cluster. A process has one connection to Ray: what uses it at the same time shares it."""

    _lock = threading.Lock()
    _current: _Connection | None = None

    def __init__(self, address: str | None, num_cpus: int):
        """Connect. address None means RAY_ADDRESS if set, else a private cluster with `num_cpus` CPUs.

        A connection that other code of this process has made is used as it is, and left as it is.

        Raises ClusterError if the cluster cannot be reached, or is not the one that is in use.
        """
        address = address or os.environ.get("RAY_ADDRESS") or "local"
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
            if connection is not None and connection.dismiss():
                RayCluster._current = None


class _Connection:
    """A connection to Ray that cleans up what it started, and leaves the process as it was."""

    def __init__(self, address: str, num_cpus: int):
        self._address = address
        self._num_cpus = num_cpus
        self._num_users = 0
        self._temp_dir: str | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._before = _ProcessState.now()
        self._set_variables(_QUIET_ENVIRONMENT)
        stdout_deduplicator.skip_re = re.compile("")  # Ray writes of dead workers to stdout, which is the command's
        try:
            if address == "local":
                self._start_private(num_cpus)
            else:
                _connect(address)
        except BaseException:
            self._close(_ProcessState.now())
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
            self._close(self._connected)
        return self._num_users == 0

    @property
    def is_private(self) -> bool:
        """Whether this object started the cluster, on this machine alone."""
        return self._temp_dir is not None

    def _close(self, connected: _ProcessState) -> None:
        """Disconnect, and end a private cluster with all its files. connected: how this process was left by Ray."""
        ray.shutdown()
        self._before.restore(connected)
        if self._temp_dir is not None:
            shutil.rmtree(self._temp_dir, ignore_errors=True)
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait()
            self._reaper = None

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        """Set environment variables that are not set, until the connection ends."""
        os.environ.update({key: value for key, value in variables.items() if key not in os.environ})

    def _start_private(self, num_cpus: int) -> None:
        self._set_variables(_PRIVATE_ENVIRONMENT)
        # Ray binds to loopback alone only where it supports no clusters; it reads the variable above while it
        # is imported, which has happened by now.
        ray_constants.ENABLE_RAY_CLUSTER = False
        self._temp_dir = _make_temp_dir()
        self._reaper = _start_reaper(self._temp_dir)
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=self._temp_dir,
                job_config=_make_job_config(),
            )
        except Exception as error:
            raise ClusterError(f"cannot start Ray on this machine: {error}; --backend local needs no Ray") from error


@dataclass(frozen=True)
class _ProcessState:
    """What connecting to Ray changes in this process, beside the connection."""

    environment: dict[str, str]
    log_level: int
    signal_handler: Any
    skip_re: Any
    is_cluster_enabled: bool

    @classmethod
    def now(cls) -> Self:
        return cls(
            dict(os.environ),
            logging.getLogger("ray").level,
            signal.getsignal(signal.SIGTERM),
            stdout_deduplicator.skip_re,
            ray_constants.ENABLE_RAY_CLUSTER,
        )

    def restore(self, later: _ProcessState) -> None:
        """Undo what has changed up to `later`, where nobody has changed it since."""
        for key in self.environment.keys() | later.environment.keys():
            before, after = self.environment.get(key), later.environment.get(key)
            if before != after == os.environ.get(key):
                _set_variable(key, before)
        if logging.getLogger("ray").level == later.log_level:
            logging.getLogger("ray").setLevel(self.log_level)
        is_theirs = signal.getsignal(signal.SIGTERM) is later.signal_handler is not self.signal_handler
        if is_theirs and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.signal_handler)
        stdout_deduplicator.skip_re = self.skip_re
        ray_constants.ENABLE_RAY_CLUSTER = self.is_cluster_enabled


def _set_variable(key: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(key, None)
    else:
        os.environ[key] = value


class _InstalledModulesFirst(JobConfig):  # type: ignore[misc]  # ray's types are not followed
    """Keeps Ray from putting the driver's current folder first where its workers look for modules."""

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def _make_job_config() -> JobConfig:
    """Return a job whose workers look for modules in the current folder only if this process does so too."""
    return JobConfig() if os.getcwd() in sys.path else _InstalledModulesFirst()  # noqa: PTH109 - as it is in sys.path


def same_kernels() -> dict[str, Any]:
    """Return the options of actors and tasks that are to use the portable kernels if this process does."""
    variables = inherited_variables()
    return {"runtime_env": {"env_vars": variables}} if variables else {}


def count_cpus() -> int:
    """Return how many CPUs the cluster has that this process is connected to."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _connect(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself takes 20 s and many lines to say that nobody is there
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, job_config=_make_job_config())
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ClusterError(
            f"cannot reach the Ray cluster at '{address}': {first_line}; check the address and that it is up"
        ) from error


def _start_reaper(temp_dir: str) -> subprocess.Popen[bytes]:
    """Start a shell that waits for this process to end, in whatever way, and then removes what is left of Ray.

    When the driver is killed, Ray's agents would stay for a minute: they are those with files open in `temp_dir`.
    """
    return subprocess.Popen(
        ["sh", "-c", _REAPER, "distbp-reaper", temp_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


_REAPER = """
read _
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  [ -e "$1" ] || exit
  for process in /proc/[0-9]*; do
    case "$(ls -l "$process/fd" 2>/dev/null)" in *"$1/"*) kill -9 "${process#/proc/}" ;; esac
  done
  rm -rf "$1"
  sleep 0.5
done
"""


def _make_temp_dir() -> str:
    """Return a new folder for Ray's files; below /tmp where TMPDIR is too long for the Unix sockets inside."""
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="distbp-ray-", dir=base if len(base) <= MAX_TEMP_LENGTH else "/tmp")
