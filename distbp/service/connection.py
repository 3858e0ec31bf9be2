"""Getting to the job server of a Ray cluster, and saying in one sentence why that failed."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from ray.job_submission import JobSubmissionClient

from distbp.errors import ClusterError, ConfigError, DistbpError

API_SERVER_ADDRESS = "RAY_API_SERVER_ADDRESS"
CONNECT_TIMEOUT_S = 10.0
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers whose notes on uploads and connections are for Ray's developers; some set a level of their own."""
NO_TOKEN, WRONG_TOKEN = "Authentication required", "Authentication failed"  # how Ray's sentences begin


def find_address(address: str | None) -> str:
    """Return the address of Ray's job server: the one given, else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS.

    Raises ConfigError if there is none.
    """
    found = address or os.environ.get(API_SERVER_ADDRESS) or os.environ.get("RAY_ADDRESS")
    if not found:
        raise ConfigError(f"no cluster is named; give --address http://HEAD:8265 or set {API_SERVER_ADDRESS}")
    return found


def connect(address: str) -> JobSubmissionClient:
    """Return a client of the job server at `address`. Raises ClusterError."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    with translated(address):
        knock(address)
        with _only_this_address(address):
            return JobSubmissionClient(address)


def knock(address: str) -> None:
    """Raise OSError in ten seconds where nobody answers; Ray's client would wait for minutes."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if parts.hostname and port:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_TIMEOUT_S).close()


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turn whatever Ray's client raises inside into a ClusterError; a DistbpError passes."""
    try:
        yield
    except DistbpError:
        raise
    except Exception as error:
        raise ClusterError(describe_failure(str(error) or type(error).__name__, address)) from error


def describe_failure(text: str, address: str) -> str:
    """Return what to tell about `text`, an error of Ray's client."""
    if WRONG_TOKEN in text or "invalid or incorrect" in text:
        return (
            f"the cluster at {address} refused the token; set RAY_AUTH_TOKEN, or the file that RAY_AUTH_TOKEN_PATH "
            "names, to the token that the cluster was started with"
        )
    if NO_TOKEN in text or "no authentication token was found" in text:
        return (
            f"the cluster at {address} asks for a token and none was sent; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "to the token that the cluster was started with"
        )
    reason = " ".join(text.split())[:300].rstrip(".")
    advice = "check the address (http://HEAD:8265) and that it is up"
    return f"cannot reach Ray's job server at {address}: {reason}; {advice}"


@contextmanager
def _only_this_address(address: str) -> Iterator[None]:
    """Keep Ray's client from preferring an address in the environment to the one it is given."""
    before = os.environ.get(API_SERVER_ADDRESS)
    os.environ[API_SERVER_ADDRESS] = address
    try:
        yield
    finally:
        with suppress(KeyError):
            del os.environ[API_SERVER_ADDRESS]
        if before is not None:
            os.environ[API_SERVER_ADDRESS] = before
