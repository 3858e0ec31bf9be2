"""Hosts on one machine: each with processes, network, shared memory and a name of its own, plugged into one switch.

A host is a set of Linux namespaces with a first process that waits for its standard input to end. When that
process exits, the kernel kills every other process of the host and takes its network and its shared memory away.
So hosts end with the process that made them, however that ends, and nothing is left to clean up. Files are
those of the machine, except /dev/shm. The machine's own network is never touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

INTERFACE = "eth0"
"""What every host's network interface is called."""

_SUBNET = "10.77.0"
_SETUP = 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm; hostname "$1"; ip link set lo up; exec "$2" -ISc "$3"'
_FIRST_PROCESS = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans leave no zombies
print("up", flush=True)
sys.stdin.read()
"""


class HostsError(Exception):
    """A host could not be made; says what this machine lacks."""


class HostProcess(subprocess.Popen):
    """A process on a host. Signals go to the program itself, not to the `nsenter` that waits for it."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program; harmless once it has ended."""
        if self.poll() is None:
            os.kill(self.program_pid, sig)

    @property
    def program_pid(self) -> int:
        """The program's process id as this machine sees it; on its host it has another one."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else self.pid


class Namespaces:
    """A host's inside: new namespaces that live until `close`, or until this process ends."""

    def __init__(self, name: str):
        """Raises HostsError if this machine does not allow it."""
        kinds = ("--net", "--uts", "--mount", "--pid", "--kill-child", "--mount-proc")
        self._keeper = subprocess.Popen(
            ["unshare", *kinds, "sh", "-ec", _SETUP, "sh", name, sys.executable, _FIRST_PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then closes its hosts
        )
        if self._keeper.stdout.readline() != "up\n":
            _, reason = self._keeper.communicate()
            raise HostsError(f"cannot make a host: {reason.strip()}; it takes root and Linux namespaces")

    @property
    def pid(self) -> int:
        """The process whose namespaces these are."""
        return self._keeper.pid

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` inside, in the current directory."""
        pid_namespace = f"--pid=/proc/{self.pid}/ns/pid_for_children"
        place = ("--net", "--uts", "--mount", pid_namespace, f"--wdns={Path.cwd()}")
        return ["nsenter", f"--target={self.pid}", *place, "--", *argv]

    def configure(self, command: str) -> None:
        """Run an `ip` or `tc` command on this network; process ids in it are those of this machine."""
        argv = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command.split()]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostsError(f"cannot build a network: '{command}' says {(done.stderr or done.stdout).strip()}")

    def close(self) -> None:
        """Kill every process inside, at once and without a warning; returns when all are gone."""
        self._keeper.stdin.close()
        self._keeper.wait(timeout=30)
        self._keeper.stdout.close()
        self._keeper.stderr.close()


class Network:
    """A switch and the hosts plugged into it."""

    def __init__(self, bandwidth: str | None = None):
        """bandwidth: of every host's line, in each direction, as tc writes it ("1gbit"); None for no limit."""
        self._bandwidth = bandwidth
        self._switch = Namespaces("switch")
        self._hosts: list[Host] = []
        self._switch.configure("ip link add switch up type bridge")

    def add_host(self) -> Host:
        """Return a new host, running and plugged in."""
        host = Host(self, len(self._hosts))
        self._hosts.append(host)
        host.boot()
        return host

    def plug_in(self, host: Host, inside: Namespaces) -> None:
        """Connect a host's network with the switch."""
        port = host.port
        with suppress(HostsError):  # what the kernel has not yet cleared away of the host before
            self._switch.configure(f"ip link delete {port}")
        self._switch.configure(f"ip link add {port} type veth peer name {INTERFACE} netns {inside.pid}")
        self._switch.configure(f"ip link set {port} master switch up")
        inside.configure(f"ip link set {INTERFACE} address {host.hardware_address}")
        inside.configure(f"ip address add {host.ip}/24 dev {INTERFACE}")
        inside.configure(f"ip link set {INTERFACE} up")
        if self._bandwidth is not None:
            limit = f"root tbf rate {self._bandwidth} burst 256kb latency 50ms"
            self._switch.configure(f"tc qdisc add dev {port} {limit}")
            inside.configure(f"tc qdisc add dev {INTERFACE} {limit}")

    def switch_port(self, host: Host, state: str) -> None:
        """Turn a host's port "up" or "down"."""
        self._switch.configure(f"ip link set {host.port} {state}")

    def close(self) -> None:
        """Kill all hosts."""
        for host in self._hosts:
            host.kill()
        self._switch.close()


class Host:
    """One host of a network; see the module's docstring for what it has of its own."""

    def __init__(self, network: Network, number: int):
        self.name = f"host-{number}"
        self.ip = f"{_SUBNET}.{number + 1}"
        self.port = f"port{number}"
        self.hardware_address = f"02:00:00:00:00:{number:02x}"  # kept, or neighbours would not find it after a boot
        self._network = network
        self._inside: Namespaces | None = None

    def boot(self) -> None:
        """Start it, as a new machine of the same name and address."""
        self._inside = Namespaces(self.name)
        self._network.plug_in(self, self._inside)

    def kill(self) -> None:
        """End all its processes at once; the others see their connections closed. Harmless when repeated.

        `disconnect` first for a host that loses power: then the others see nothing at all.
        """
        inside, self._inside = self._inside, None
        if inside is not None:
            inside.close()

    def disconnect(self) -> None:
        """Pull the network cable: what is sent is lost, and connections wait."""
        self._network.switch_port(self, "down")

    def reconnect(self) -> None:
        """Plug the cable in again."""
        self._network.switch_port(self, "up")

    @property
    def pid(self) -> int:
        """A process of this machine whose network is the host's."""
        return self._running().pid

    def popen(self, argv: Sequence[str], **options: Any) -> HostProcess:
        """Start a process on this host; options are those of subprocess.Popen."""
        return HostProcess(self._running().enter(argv), **options)

    def run(
        self, argv: Sequence[str], timeout_s: float = 60.0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and return its exit code and output.

        Raises subprocess.TimeoutExpired after `timeout_s`, when it has been killed.
        """
        process = self.popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def _running(self) -> Namespaces:
        if self._inside is None:
            raise HostsError(f"{self.name} was killed; boot() starts it again")
        return self._inside


@contextmanager
def make_hosts(count: int, bandwidth: str | None = None) -> Iterator[list[Host]]:
    """Yield `count` hosts on one network and kill them in the end. bandwidth: as in Network."""
    network = Network(bandwidth)
    try:
        yield [network.add_host() for _ in range(count)]
    finally:
        network.close()


def reason_to_skip() -> str | None:
    """Return why this machine cannot make hosts; None if it can."""
    missing = [program for program in ("unshare", "nsenter", "ip", "tc") if shutil.which(program) is None]
    if missing:
        return f"hosts need {' and '.join(missing)} (util-linux, iproute2)"
    try:
        with make_hosts(2, bandwidth="1gbit"):
            return None
    except HostsError as error:
        return str(error)
