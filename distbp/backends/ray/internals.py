"""Every name of Ray that is not public, in one place; a version of Ray without one loses a feature, never a run."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.job_config import JobConfig

try:
    from ray._private import ray_constants
except ImportError:
    ray_constants = None  # `listen_on_loopback` warns
try:
    from ray._private import services
except ImportError:
    services = None  # Ray's processes are not kept apart, see `own_sessions`
try:
    from ray._private.ray_logging import stdout_deduplicator
except ImportError:
    stdout_deduplicator = None  # Ray may write of dead workers to stdout
try:
    from ray._raylet import AuthenticationMode, get_authentication_mode  # type: ignore[attr-defined]  # compiled code
except ImportError:
    get_authentication_mode = None
try:
    from ray._private.worker import global_worker
except ImportError:
    global_worker = None  # nobody hears that a node drains
try:
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE
except ImportError:
    GCS_STORAGE_MAX_SIZE = 512 * 1024 * 1024  # of Ray 2.60

MAX_PACKAGE_BYTES = min(GCS_STORAGE_MAX_SIZE, 100 * 1024 * 1024)
"""What Ray takes at most as a job's folder, in an archive: its dashboard refuses requests of more than 100 MiB."""

TALKATIVE_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers whose notes on uploads and connections are for Ray's developers; some set a level of their own."""

logger = logging.getLogger("distbp")


def keep_stdout_clean(keep: bool) -> None:
    """Keep Ray's messages about dead workers off stdout, where results go; False allows them again."""
    if stdout_deduplicator is not None:
        stdout_deduplicator.skip_re = re.compile("") if keep else None


@contextmanager
def loopback_only() -> Iterator[None]:
    """Let a Ray that is started inside the block listen on loopback only.

    Ray does so only where it supports no clusters. It reads the variable for that while it is imported.
    """
    if not hasattr(ray_constants, "ENABLE_RAY_CLUSTER"):
        logger.warning("this version of Ray may listen beyond this machine; distbp is tested with Ray 2.52 to 2.60")
        yield
        return
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def own_sessions(started: list[subprocess.Popen[Any]], variables: Mapping[str, str]) -> Iterator[None]:
    """Let the processes of a Ray that is started inside lead sessions of their own, and append them to `started`.

    variables: put into their environment, and into that of nothing else that this process starts meanwhile.

    So a signal to the driver's process group, as of Ctrl-C or `timeout`, does not end Ray before the driver has
    written its checkpoint. Without it the list stays empty.
    """
    base = getattr(services, "ConsolePopen", None)
    if base is None:
        yield
        return

    class OwnSession(base):  # type: ignore[misc, valid-type]  # a class found at run time
        def __init__(self, *arguments: Any, **options: Any):
            environment = {**(options.get("env") or os.environ), **variables}
            super().__init__(*arguments, **{**options, "start_new_session": True, "env": environment})
            started.append(self)

    services.ConsolePopen = OwnSession
    try:
        yield
    finally:
        services.ConsolePopen = base


class _InstalledModulesFirst(JobConfig):  # type: ignore[misc]  # ray's types are not followed
    """Keeps Ray from putting the driver's current folder first where its workers look for modules."""

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def make_job_config() -> JobConfig:
    """Return a job whose workers look for modules in the current folder only if this process does so too.

    Where Ray has no such method, its workers look there first, as they do by themselves.
    """
    return JobConfig() if os.getcwd() in sys.path else _InstalledModulesFirst()  # noqa: PTH109 - as it is in sys.path


def asks_for_token() -> bool:
    """Return whether the cluster that this process is connected to asks for a token before it runs code."""
    if get_authentication_mode is None:
        return os.environ.get("RAY_AUTH_MODE") == "token"
    return bool(get_authentication_mode() != AuthenticationMode.DISABLED)


def list_draining_nodes(timeout_s: float) -> dict[str, float | None]:
    """Return the seconds left of every node that drains, by its number; None: without an end. {} where Ray cannot say.

    Raises what Ray does when its directory of the cluster does not answer within `timeout_s`.
    """
    client: Any = getattr(global_worker, "gcs_client", None)
    if not hasattr(client, "get_draining_nodes"):
        return {}
    now_ms = 1000 * time.time()  # deadlines are times of day
    found: Mapping[str, int] = client.get_draining_nodes(timeout=timeout_s)
    return {node: (until_ms - now_ms) / 1000 if until_ms else None for node, until_ms in found.items()}
