"""Addresses at which there is something other than Ray: one sentence, soon."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import start_distbp
from waiting import wait_until

from distbp.backends.ray import cluster as ray_cluster
from distbp.backends.ray.cluster import RayCluster
from distbp.errors import ClusterError, ConfigError
from distbp.machine.deadline import within
from distbp.service import connection
from distbp.service.connection import connect, describe_failure, find_address

pytestmark = pytest.mark.slow

HTTP2_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
ANSWERS = {
    "web": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "redis": b"-ERR unknown command\r\n",
    "silent": None,
    "hangs up": b"",
}


@contextmanager
def serve(answer: bytes | None) -> Iterator[str]:
    """Yield the address of a server that gives one answer to all, nothing for None, and the end of the line for b""."""
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                lines.append(line)
                if answer is not None:
                    line.recv(1024)
                    line.sendall(answer)
                    line.close()

        thread = threading.Thread(target=work)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for line in lines:
        line.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch) -> None:
    monkeypatch.setattr(ray_cluster, "KNOCK_TIMEOUT_S", 0.5)
    monkeypatch.setattr(connection, "CALL_TIMEOUT_S", 2.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("web", "a web server, perhaps Ray's dashboard"),
        ("redis", "something else"),
        ("silent", "something that does not answer"),
        ("hangs up", "something else"),
    ],
)
def test_something_other_than_ray_at_the_address_is_named(monkeypatch, answer, words):
    with serve(ANSWERS[answer]) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ClusterError, match=words) as caught:
            RayCluster(None, 1)
    assert address in str(caught.value)
    assert "HEAD:6379" in str(caught.value)


def test_address_of_the_job_server_is_told_from_that_of_ray():
    with pytest.raises(ClusterError, match="address of Ray's job server"):
        RayCluster("http://127.0.0.1:8265", 1)


@pytest.fixture
def joining(tmp_path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A run that tries to join a server that greets like Ray and says no more, and that server's address."""
    with serve(HTTP2_SETTINGS) as address:
        words = ("train", "--backend", "ray", "--name", "r")
        with start_distbp(*words, cwd=tmp_path, env={**os.environ, "RAY_ADDRESS": address}) as process:
            try:
                yield process, address
            finally:
                process.kill()


@pytest.mark.ray
def test_server_that_greets_like_ray_and_says_no_more_is_given_up(joining):
    process, address = joining
    told = process.communicate(timeout=60)[1]  # Ray itself tries for minutes
    assert process.returncode == 7
    assert f"cannot reach the Ray cluster at '{address}': no answer from Ray within 25 s" in told


@pytest.mark.ray
def test_sigterm_while_a_cluster_is_joined_ends_a_run_with_143(joining, tmp_path):
    process, _ = joining
    wait_until((tmp_path / "runs" / "r" / "events.jsonl").exists)
    process.terminate()
    assert "Stopped" in process.communicate(timeout=20)[1]
    assert process.returncode == 143


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_empty_address_variable_is_as_good_as_none(monkeypatch, name):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv(name, "")
    with pytest.raises(ConfigError, match="no cluster is named"):
        find_address(None)


def test_job_server_that_says_nothing_is_given_up():
    with serve(None) as address, pytest.raises(ClusterError, match="no answer within 2 s"):
        connect(f"http://{address}")


def test_proxy_in_the_way_of_a_job_server_is_named(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    told = describe_failure("502 Bad Gateway", "http://127.0.0.1:8265")
    assert "the variable http_proxy sends it through http://proxy.example:3128, so set no_proxy=127.0.0.1" in told
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "proxy" not in describe_failure("502 Bad Gateway", "http://127.0.0.1:8265")


def test_call_that_does_not_come_back_is_given_up_and_errors_pass():
    never = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.1, never.wait)
    never.set()
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
