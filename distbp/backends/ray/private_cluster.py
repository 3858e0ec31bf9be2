"""A Ray of one driver's own on this machine: started, watched, and ended with all its files."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from distbp.backends.ray.internals import loopback_only, make_job_config, own_sessions
from distbp.errors import ClusterError

START_TIMEOUT_S = 120.0
GRACE_S = 3.0
"""How long an abandoned start of Ray may take to finish, so that it can be ended in order."""
SHUTDOWN_TIMEOUT_S = 10.0
MARK = "DISTBP_PRIVATE_RAY"
"""The environment variable that all processes of a private Ray inherit: it holds the folder of their files."""
MAX_TEMP_LENGTH = 22
"""Unix sockets' paths have at most 107 bytes, and Ray adds up to 64 below a folder whose own name has 21."""
_ESSENTIAL = ("gcs_server", "raylet")
_running: list[PrivateRay] = []  # this process's, one at most as Ray has it


def find_dead() -> str | None:
    """Return which necessary process of a private Ray has ended; None while all live."""
    return next(filter(None, (alone.find_dead() for alone in _running)), None)


def check_alive() -> None:
    """Raise ClusterError if a private Ray has broken down, which Ray itself says nothing of for a minute."""
    dead = find_dead()
    if dead is not None:
        raise ClusterError(f"{dead} has ended, so nothing can be run on it any more; the same command resumes")


class PrivateRay:
    """A Ray that listens on loopback alone, in a folder that only this user can enter."""

    def __init__(self, num_cpus: int):
        """Start it and connect. Raises ClusterError if that fails."""
        self._num_cpus = num_cpus
        self._folder = _make_folder()
        self._reaper = _start_reaper(self._folder)
        self._processes: list[subprocess.Popen[Any]] = []
        self._error: BaseException | None = None
        self._is_started, self._is_closed = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="distbp-ray", daemon=True)
        try:
            self._keeper.start()
            self._await_start()
        except BaseException:
            self.close()
            raise
        _running.append(self)

    def find_dead(self) -> str | None:
        """Return which necessary process of Ray has ended; None while all live."""
        for process in self._processes:
            name = Path(process.args[0]).name  # type: ignore[arg-type, index]  # Ray starts all of them from lists
            if name in _ESSENTIAL and process.poll() is not None:
                return f"Ray's {name} (pid {process.pid})"
        return None

    def close(self) -> None:
        """End it, in whatever state it is, and remove its files."""
        if self in _running:
            _running.remove(self)
        is_up = self._is_started.wait(GRACE_S) and self.find_dead() is None
        self._is_closed.set()
        if self._keeper.ident is not None:
            _join(self._keeper, SHUTDOWN_TIMEOUT_S if is_up else GRACE_S)
        if not self._keeper.is_alive():
            self._remove()
        # else a start or shutdown under way would make files again: the keeper removes them when it is over, or the
        # reaper when this process has ended

    def _remove(self) -> None:
        """Remove the files and end what is left; harmless when repeated."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(ValueError):  # it was told before
            self._reaper.communicate(b"ended\n")
        self._reaper.wait()

    def _await_start(self) -> None:
        if not self._is_started.wait(START_TIMEOUT_S):
            raise ClusterError(_describe_failed_start(f"it took more than {START_TIMEOUT_S:.0f} s"))
        if self._error is not None:
            raise ClusterError(_describe_failed_start(self._error)) from self._error

    def _keep(self) -> None:
        """Start Ray and stay: the kernel ends Ray's processes together with the thread that started them.

        A thread other than the main one, so that Ray leaves the handlers of signals alone, and signals are heard.
        """
        try:
            with loopback_only(), own_sessions(self._processes, {MARK: self._folder}):
                ray.init(
                    address="local",
                    num_cpus=self._num_cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=f"{self._folder}/r",
                    job_config=make_job_config(),
                )
        except BaseException as error:
            self._error = error
        finally:
            self._is_started.set()
        self._is_closed.wait()
        if self._error is None:  # also where nobody has waited for the start to end
            ray.shutdown()
        self._remove()


def _join(thread: threading.Thread, timeout_s: float) -> None:
    """Wait for a thread, however often Ctrl-C is pressed meanwhile; that is raised afterwards.

    Ray ends the process with a code of its own where one thread uses it while another shuts it down, as at exit.
    """
    deadline = time.monotonic() + timeout_s
    interruption: BaseException | None = None
    while thread.is_alive() and (left_s := deadline - time.monotonic()) > 0:
        try:
            thread.join(left_s)
        except BaseException as error:
            interruption = interruption or error
    if interruption is not None:
        raise interruption


def _describe_failed_start(reason: object) -> str:
    return f"cannot start Ray on this machine: {reason}; --backend local needs no Ray"


def _start_reaper(folder: str) -> subprocess.Popen[bytes]:
    """Start a shell that waits until this process has ended, in any way, and then removes what is left of Ray.

    When the driver is killed, Ray's agents would stay for a minute. Only processes that carry the mark are ended, and
    those with files open in the folder that call themselves ray:: - writing such a name may have wiped out the mark.
    Where nobody told it that Ray has ended in order, it looks again some seconds long: a process of Ray that was just
    being started then makes its folder anew.
    """
    return subprocess.Popen(
        ["sh", "-c", _REAPER, "distbp-reaper", folder, f"{MARK}={folder}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


_REAPER = """
read told
looks=5
[ "$told" != ended ] || looks=1
quiet=0
for attempt in $(seq 40); do
  found=$(grep -lszxF "$2" /proc/[0-9]*/environ)
  for named in $(grep -lsz "^ray::" /proc/[0-9]*/cmdline); do
    case $(ls -l "${named%cmdline}fd" 2>/dev/null) in *"$1/"*) found="$found ${named%cmdline}environ" ;; esac
  done
  if [ -n "$found" ] || [ -e "$1" ]; then
    quiet=0
    for process in $found; do
      process=${process#/proc/}
      kill -9 "${process%/environ}"
    done
    rm -rf "$1"
    [ -z "$found" ] || sleep 0.2
  else
    quiet=$((quiet + 1))
    [ "$quiet" -lt "$looks" ] || exit
    sleep 1
  fi
done
"""


def _make_folder() -> str:
    """Return a new folder, of mode 0700, in which Ray makes one that all may write to.

    It lies below /tmp where TMPDIR is too long for the Unix sockets inside.
    """
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="distbp-ray-", dir=base if len(base) <= MAX_TEMP_LENGTH else "/tmp")
