"""Where Ray encrypts, nothing that members send each other crosses the network in the clear; renewal included."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from certificates import Authority
from encrypted_ray import issue, start_encrypted_ray
from hosts import INTERFACE, Host, make_hosts
from ray_hosts import RayOnHosts
from test_host_faults import expect_same, start, whole  # noqa: F401 - fixtures

pytestmark = pytest.mark.ray

WORD = "PartialsHeader"
"""What every message about gradients holds in the clear."""
LISTEN = f"""
import socket, sys
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
line.bind(("{INTERFACE}", 0))
line.settimeout(0.5)
print("up", flush=True)
num_bytes, was_seen = 0, False
while num_bytes < int(sys.argv[1]):
    try:
        frame = line.recv(1 << 16)
    except TimeoutError:
        continue
    num_bytes += len(frame)
    was_seen |= b"{WORD}" in frame
print(was_seen, flush=True)
"""


@contextmanager
def listen(host: Host, num_bytes: int) -> Iterator[subprocess.Popen]:
    """Yield a process that hears so many bytes of a host's network and then says whether WORD was among them."""
    process = host.popen([sys.executable, "-c", LISTEN, str(num_bytes)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def was_heard(host: Host) -> bool:
    with listen(host, 3_000_000) as process:
        return process.stdout.readline() == "True\n"


def test_the_listener_hears_what_is_not_encrypted(start):  # noqa: F811
    with make_hosts(2) as hosts:
        running = start(hosts[0], RayOnHosts(hosts), 2)
        running.until_workers(2)
        assert was_heard(hosts[1])
        running.stop()


def test_members_send_nothing_in_the_clear_also_with_renewed_certificates(start, whole, tmp_path):  # noqa: F811
    authority = Authority(tmp_path / "certificates")
    with make_hosts(3) as hosts:
        cluster = start_encrypted_ray(hosts[:2], authority)
        running = start(hosts[0], cluster, [2, 3])
        running.until_workers(2)
        assert not was_heard(hosts[1])
        for host in hosts[:2]:
            issue(authority, host)  # renewed, while the run goes on
        cluster.environment.update(issue(authority, hosts[2]))
        cluster.add(hosts[2:])
        running.until_workers(3)
        assert not was_heard(hosts[1])
        expect_same(running, whole)
    assert running.events("lost") == []
