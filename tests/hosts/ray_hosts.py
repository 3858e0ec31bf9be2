"""A Ray cluster over hosts: one `ray start` on each, as on real machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hosts import Host, HostProcess

PORT = 6379
START_TIMEOUT_S = 120.0
OBJECT_STORE_BYTES = 200_000_000
_RAY = str(Path(sys.executable).with_name("ray"))

_ENVIRONMENT = {
    "RAY_TMPDIR": "/dev/shm",  # each host has its own, and it goes with the host
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning about accelerators
}
_LIST_NODES = """
import json, sys, time, ray
address, count, deadline = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
ray.init(address=address, log_to_driver=False, logging_level="ERROR")
while True:
    alive = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
    if len(alive) == count or time.monotonic() > deadline:
        break
    time.sleep(0.1)
print(json.dumps(alive))
"""
_LIST_RESERVATIONS = """
import json, sys, ray
from ray.util import placement_group_table
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(json.dumps([found["state"] for found in placement_group_table().values() if found["state"] != "REMOVED"]))
"""


class RayHostsError(Exception):
    """The cluster did not come up; says what Ray said."""


class RayOnHosts:
    """A Ray cluster whose head is the first host. It ends with its hosts: killing them is all there is to close."""

    def __init__(
        self,
        hosts: Sequence[Host],
        cpus_per_host: int = 1,
        token: str | None = None,
        variables: Mapping[str, str] | None = None,
        dashboard: bool = False,
    ):
        """Start Ray on every host and wait until all have joined.

        token: turns Ray's authentication on. variables: further ones for Ray's processes, such as PYTHONPATH.
        dashboard: whether the head runs it, as Ray's jobs need; on the head's address, not on loopback alone.

        Raises RayHostsError.
        """
        self._head = hosts[0]
        self._cpus_per_host = cpus_per_host
        self.address = f"{self._head.ip}:{PORT}"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.environment = {**inherited, **_ENVIRONMENT, **_authentication(token), **(variables or {})}
        """What a driver's environment has to be; drivers run on the hosts."""
        port = [f"--port={PORT}", f"--include-dashboard={str(dashboard).lower()}", f"--dashboard-host={self._head.ip}"]
        _finish(self._start(self._head, ["--head", *port]))
        self.add(hosts[1:])
        alive = self.wait_for_nodes(len(hosts))
        if alive != sorted(host.ip for host in hosts):
            raise RayHostsError(f"only {alive} of {len(hosts)} nodes joined within {START_TIMEOUT_S:.0f} s")

    def add(self, hosts: Sequence[Host], cpus: int | None = None) -> None:
        """Let hosts join, all at once: new ones, or ones that were killed and booted. cpus: None for the cluster's."""
        for starting in [self._start(host, [f"--address={self.address}"], cpus) for host in hosts]:
            _finish(starting)

    def add_in_foreground(self, host: Host) -> HostProcess:
        """Let a host join by a process that stays, as a container's first process does; SIGTERM to it ends the node."""
        return self._start(host, [f"--address={self.address}", "--block"])

    def drain(self, host: Host, seconds: int) -> None:
        """Let Ray know that a host will be taken away in so many seconds, as `deploy/kuberay` does; nothing else."""
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the pod ends"]
        argv = [_RAY, "drain-node", *reason, "--deadline-remaining-seconds", str(seconds)]
        done = host.run(argv, START_TIMEOUT_S, {**self.environment, "RAY_ADDRESS": self.address})
        if done.returncode:
            raise RayHostsError(f"`ray drain-node` failed: {done.stderr[-2000:]}")

    def list_reservations(self) -> list[str]:
        """Return the states of all placement groups that there are."""
        argv = [sys.executable, "-c", _LIST_RESERVATIONS, self.address]
        states: list[str] = json.loads(self._head.run(argv, START_TIMEOUT_S, self.environment).stdout.splitlines()[-1])
        return states

    def wait_for_nodes(self, count: int, timeout_s: float = START_TIMEOUT_S) -> list[str]:
        """Return the addresses of all nodes alive, as soon as they are `count`, or as they are after `timeout_s`."""
        argv = [sys.executable, "-c", _LIST_NODES, self.address, str(count), str(timeout_s)]
        done = self._head.run(argv, timeout_s + START_TIMEOUT_S, self.environment)
        if done.returncode:
            raise RayHostsError(f"cannot list the nodes of {self.address}: {done.stderr[-2000:]}")
        alive: list[str] = json.loads(done.stdout.splitlines()[-1])
        return alive

    def _start(self, host: Host, options: list[str], cpus: int | None = None) -> HostProcess:
        num_cpus = self._cpus_per_host if cpus is None else cpus
        size = [f"--num-cpus={num_cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        return host.popen(
            [_RAY, "start", *options, f"--node-ip-address={host.ip}", *size, "--disable-usage-stats"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _authentication(token: str | None) -> dict[str, str]:
    """Return the variables that say it explicitly: by default Ray uses a token that it finds in the home directory."""
    return {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _finish(starting: subprocess.Popen) -> None:
    try:
        output, _ = starting.communicate(timeout=START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise RayHostsError(f"`ray start` took longer than {START_TIMEOUT_S:.0f} s") from None
    if starting.returncode:
        raise RayHostsError(f"`ray start` failed: {output[-2000:]}")
