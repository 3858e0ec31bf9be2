"""Getting to a Ray cluster: the one already connected to, a named one, or a private one on this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import ray
from ray._private import ray_constants
from ray._private.ray_logging import stdout_deduplicator
from ray.job_config import JobConfig

from distbp.errors import ClusterError

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
    """A connection to Ray that cleans up what it started, and only that."""

    def __init__(self, address: str | None, num_cpus: int):
        """Connect. address None means RAY_ADDRESS if set, else a private cluster with `num_cpus` CPUs.

        Raises ClusterError if the cluster cannot be reached.
        """
        self._is_ours = not ray.is_initialized()
        self._temp_dir: str | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._set: dict[str, str] = {}
        self._enabled_before = ray_constants.ENABLE_RAY_CLUSTER
        if not self._is_ours:
            return
        self._set_variables(_QUIET_ENVIRONMENT)
        stdout_deduplicator.skip_re = re.compile("")  # Ray writes of dead workers to stdout, which is the command's
        address = address or os.environ.get("RAY_ADDRESS")
        if address is None or address == "local":
            self._start_private(num_cpus)
        else:
            _connect(address)

    @property
    def is_private(self) -> bool:
        """Whether this object started the cluster, on this machine alone."""
        return self._temp_dir is not None

    def close(self) -> None:
        """Disconnect if this object connected, and end a private cluster with all its files."""
        if self._is_ours:
            ray.shutdown()
            stdout_deduplicator.skip_re = None
            self._is_ours = False
        ray_constants.ENABLE_RAY_CLUSTER = self._enabled_before
        for key in self._set:
            os.environ.pop(key, None)
        if self._temp_dir is not None:
            shutil.rmtree(self._temp_dir, ignore_errors=True)
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait()
            self._reaper = None

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        """Set environment variables that are not set, until `close`."""
        added = {key: value for key, value in variables.items() if key not in os.environ}
        os.environ.update(added)
        self._set |= added

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
            self.close()
            raise ClusterError(f"cannot start Ray on this machine: {error}; --backend local needs no Ray") from error


class _InstalledModulesFirst(JobConfig):  # type: ignore[misc]  # ray's types are not followed
    """Keeps Ray from putting the driver's current folder first where its workers look for modules."""

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def _make_job_config() -> JobConfig:
    """Return a job whose workers look for modules in the current folder only if this process does so too."""
    return JobConfig() if os.getcwd() in sys.path else _InstalledModulesFirst()  # noqa: PTH109 - as it is in sys.path


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
