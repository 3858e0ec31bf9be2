"""Getting to the job server of a Ray cluster, and saying in one sentence why that failed."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ray.job_submission import JobSubmissionClient

from distbp.backends.ray.internals import TALKATIVE_LOGGERS
from distbp.errors import ClusterError, ConfigError, DistbpError
from distbp.machine.deadline import within

T = TypeVar("T")

API_SERVER_ADDRESS = "RAY_API_SERVER_ADDRESS"
CONNECT_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 30.0
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
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

    def open_client() -> JobSubmissionClient:
        knock(address)
        with _only_this_address(address):
            return JobSubmissionClient(address)

    return ask(address, open_client)


def ask(address: str, call: Callable[[], T], timeout_s: float | None = None) -> T:
    """Return call(), which asks the job server. Raises ClusterError, also where no answer comes in time."""
    timeout_s = CALL_TIMEOUT_S if timeout_s is None else timeout_s
    with translated(address):
        try:
            return within(timeout_s, call)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no answer within {timeout_s:.0f} s") from error


def knock(address: str) -> None:
    """Raise OSError if nothing answers within ten seconds; Ray's client would wait for minutes."""
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
    advice = _blame_proxy(address) or "check the address (http://HEAD:8265) and that it is up"
    return f"cannot reach Ray's job server at {address}: {reason}; {advice}"


def _blame_proxy(address: str) -> str | None:
    """Return what to do about a proxy that the environment puts between here and `address`; None without one."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    host = parts.hostname or ""
    if parts.scheme not in getproxies() or proxy_bypass(host):
        return None
    return f"the variable {parts.scheme}_proxy sends it through {getproxies()[parts.scheme]}, so set no_proxy={host}"


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
