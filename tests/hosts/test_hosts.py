"""Hosts are separate machines to what runs on them, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import INTERFACE, Host
from waiting import wait_until

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PORT = "7000"
ANSWER = f"""
import socket
with socket.create_server(("", {PORT})) as server:
    print("ready", flush=True)
    while True:
        server.accept()[0].sendall(b"hello")
"""
ASK = f"""
import socket, sys
with socket.create_connection((sys.argv[1], {PORT}), timeout=1) as connection:
    sys.exit(connection.recv(5) != b"hello")
"""
HARNESS = """
import sys
from hosts import make_hosts

with make_hosts(2, bandwidth="1gbit") as hosts:
    for host in hosts:
        host.popen(["setsid", "sleep", "1000"])
    print(*(host.pid for host in hosts), flush=True)
    sys.stdin.read()
"""


def interfaces(host: Host | None = None) -> list[str]:
    if host is None:
        return sorted(path.name for path in Path("/sys/class/net").iterdir())
    lines = host.run(["ip", "-oneline", "link"]).stdout.splitlines()
    return sorted(line.split()[1].partition("@")[0].rstrip(":") for line in lines)


def namespace(pid: int | str) -> str:
    """Which network a process is on; '' if it is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def processes_on(networks: set[str]) -> list[str]:
    return [path.name for path in Path("/proc").glob("[0-9]*") if namespace(path.name) in networks]


def answers(asking: Host, answering: Host) -> bool:
    return asking.run([sys.executable, "-c", ASK, answering.ip]).returncode == 0


@contextmanager
def start_harness(script: str, **variables: str) -> Iterator[tuple[subprocess.Popen, set[str]]]:
    """Yield a process that has made two hosts, and their networks; its first line of output is the hosts' pids."""
    harness = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=HERE,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        networks = {namespace(pid) for pid in harness.stdout.readline().split()}
        assert len(networks - {"", namespace("self")}) == 2
        yield harness, networks
    finally:
        harness.kill()
        harness.communicate(timeout=30)


def serve(host: Host) -> subprocess.Popen:
    process = host.popen([sys.executable, "-c", ANSWER], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


def test_a_host_has_its_own_name_network_processes_and_shared_memory(two_hosts):
    host, other = two_hosts
    assert host.run(["hostname"]).stdout == "host-0\n"
    assert interfaces(host) == sorted([INTERFACE, "lo"])
    host.run(["touch", "/dev/shm/mine"])
    assert other.run(["ls", "/dev/shm"]).stdout == ""
    assert not Path("/dev/shm/mine").exists()
    assert int(host.run(["sh", "-c", "echo $$"]).stdout) < 100


def test_a_host_works_in_the_current_directory(two_hosts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert two_hosts[0].run(["pwd"]).stdout == f"{tmp_path}\n"


def test_a_disconnected_host_is_silent_until_it_is_reconnected(two_hosts):
    host, other = two_hosts
    server = serve(host)
    assert answers(other, host)
    host.disconnect()
    assert not answers(other, host)
    host.reconnect()
    wait_until(lambda: answers(other, host))
    server.kill()
    server.wait(timeout=30)


def test_a_killed_host_takes_its_processes_along_and_can_boot_again(two_hosts):
    host, other = two_hosts
    server = serve(host)
    pid = server.program_pid
    host.kill()
    server.wait(timeout=30)
    assert not Path(f"/proc/{pid}").exists()
    assert not answers(other, host)
    host.boot()
    server = serve(host)
    assert answers(other, host)
    host.kill()
    server.wait(timeout=30)


def test_a_signal_reaches_the_program_and_its_exit_code_comes_back(two_hosts):
    script = 'trap "exit 143" TERM; echo ready; while :; do sleep 0.05; done'
    process = two_hosts[0].popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    process.stdout.close()


def test_nothing_is_left_when_the_process_that_made_the_hosts_is_killed():
    before = interfaces()
    with start_harness(HARNESS) as (harness, networks):
        wait_until(lambda: len(processes_on(networks)) >= 6)  # on each host: its keeper, its first process, sleep
        harness.kill()
        wait_until(lambda: processes_on(networks) == [])
    assert interfaces() == before
