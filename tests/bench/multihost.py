"""What a server on every host brings: hosts joined by lines of limited bandwidth, and torch's all-reduce beside it.

Needs root on Linux (see tests/hosts/hosts.py) and the [bench] extra. All hosts share this machine's cores, so a
training step is measured twice: as it is here, and with each gradient replaced by a pause as long as it takes one
worker with a core to itself. The second is what hosts with cores of their own would do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "hosts"), str(HERE.parent)]

from certificates import Authority  # noqa: E402 - found by the path above
from encrypted_ray import start_encrypted_ray  # noqa: E402 - found by the path above
from hosts import INTERFACE, Host, make_hosts, reason_to_skip  # noqa: E402 - found by the path above
from ray_hosts import RayOnHosts  # noqa: E402

SIZES, BATCH = "784-2048-2048-10", 1024
NUM_PARAMETERS = sum((inputs + 1) * outputs for inputs, outputs in pairwise(map(int, SIZES.split("-"))))
UNITS = {"gbit": 1e9, "mbit": 1e6}
TIMEOUT_S = 300.0

Found = dict[str, float]


class Bench:
    """Hosts with Ray on them, and the programs that are measured there."""

    def __init__(self, hosts: Sequence[Host], num_steps: int, authority: Authority | None = None):
        """authority: signs the certificates with which Ray and distbp encrypt; None: in the clear."""
        self._hosts = hosts
        self._num_steps = num_steps
        path = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))}
        if authority is None:
            self._cluster = RayOnHosts(hosts, variables=path)
        else:
            self._cluster = start_encrypted_ray(hosts, authority, path)

    def gradient_s(self) -> float:
        """Return the seconds that one worker's gradient takes on a core of its own."""
        return self._distbp("alone", SIZES, -(-BATCH // len(self._hosts)), self._num_steps)["compute"]

    def programs(self, gradient_s: float) -> dict[str, Callable[[], Found]]:
        """Return what is measured, by name."""
        hosts, steps, pause_ms = len(self._hosts), self._num_steps, round(1e3 * gradient_s)
        programs: dict[str, Callable[[], Found]] = {"gloo all-reduce": self._gloo}
        for servers in (1, hosts):
            name = name_servers(servers)
            step = ("distbp", SIZES, BATCH, hosts, servers, steps)
            transfer = ("transfer", NUM_PARAMETERS, hosts, servers, steps)
            programs[f"transfer, {name}"] = partial(self._distbp, *transfer)
            programs[f"step, {name}"] = partial(self._distbp, *step)
            programs[f"step with a core each, {name}"] = partial(self._distbp, *transfer, pause_ms)
        return programs

    def _distbp(self, *arguments: str | int) -> Found:
        environment = {**self._cluster.environment, "RAY_ADDRESS": self._cluster.address}
        return self._run_on_each(self._hosts[:1], [str(argument) for argument in arguments], environment)

    def _gloo(self) -> Found:
        environment = {
            **os.environ,
            "GLOO_SOCKET_IFNAME": INTERFACE,
            "MASTER_ADDR": self._hosts[0].ip,
            "MASTER_PORT": "29500",
            "WORLD_SIZE": str(len(self._hosts)),
        }
        return self._run_on_each(self._hosts, ["gloo", str(NUM_PARAMETERS), str(4 * self._num_steps)], environment)

    def _run_on_each(self, hosts: Sequence[Host], arguments: list[str], environment: dict[str, str]) -> Found:
        """Run a program on each of the hosts at once and return what the first one found."""
        argv = [sys.executable, str(HERE / "multihost_programs.py"), *arguments]
        running = [
            host.popen(argv, env={**environment, "RANK": str(rank)}, stdout=-1, stderr=-1, text=True)
            for rank, host in enumerate(hosts)
        ]
        ended = [process.communicate(timeout=TIMEOUT_S) for process in running]
        for process, (_, errors) in zip(running, ended, strict=True):
            if process.returncode:
                raise SystemExit(f"{' '.join(arguments)} failed: {errors[-2000:]}")
        return json.loads(ended[0][0].splitlines()[-1])


def measure(num_hosts: int, bandwidth: str, rounds: int, num_steps: int, is_encrypted: bool) -> dict[str, Found]:
    """Return medians over rounds, in each of which all programs run one after the other."""
    found: dict[str, list[Found]] = {}
    with make_hosts(num_hosts, bandwidth) as hosts, tempfile.TemporaryDirectory() as folder:
        bench = Bench(hosts, num_steps, Authority(Path(folder)) if is_encrypted else None)
        programs = bench.programs(bench.gradient_s())
        for number in range(rounds):
            for name, program in programs.items():
                found.setdefault(name, []).append(program())
                print(f"round {number + 1}/{rounds} {name}: {found[name][-1]}", file=sys.stderr)
    return {name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in found.items()}


def ratios(found: dict[str, Found], num_hosts: int) -> dict[str, float]:
    """Return the comparisons that matter."""
    step = {name: times["step"] for name, times in found.items()}
    many = name_servers(num_hosts)
    kinds = ("step", "step with a core each", "transfer")
    return {
        **{f"{kind}, {many} : 1 server": step[f"{kind}, {many}"] / step[f"{kind}, 1 server"] for kind in kinds},
        f"transfer, {many} : gloo all-reduce": step[f"transfer, {many}"] / step["gloo all-reduce"],
    }


def name_servers(count: int) -> str:
    """Return "1 server" or "4 servers"."""
    return f"{count} server{'s' if count > 1 else ''}"


def bound(num_hosts: int, bandwidth: str) -> float:
    """Return the seconds that the lines need for 2 n (S-1)/S float32 values out of, and into, every host."""
    number, unit = bandwidth[:-4], bandwidth[-4:].lower()
    return 2 * NUM_PARAMETERS * (num_hosts - 1) / num_hosts * 32 / (float(number) * UNITS[unit])


def show(report: dict) -> None:
    """Print milliseconds and ratios."""
    title = f"{report['hosts']} hosts at {report['bandwidth']} on {report['cores']} cores, {SIZES}, batch {BATCH}"
    table = Table("ms", "whole", "compute", "commit", title=title)
    for name, times in report["seconds"].items():
        table.add_row(
            name, *(f"{1e3 * times[key]:.0f}" if key in times else "-" for key in ("step", "compute", "commit"))
        )
    table.add_row("bandwidth bound", f"{1e3 * report['bound']:.0f}", "-", "-")
    table.add_section()
    for name, ratio in report["ratios"].items():
        table.add_row(name, f"{ratio:.2f}")
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--bandwidth", default="1gbit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each training run")
    parser.add_argument("--tls", action="store_true", help="encrypt all that Ray and distbp send")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := reason_to_skip():
        raise SystemExit(reason)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    found = measure(options.hosts, options.bandwidth, options.rounds, options.steps, options.tls)
    report = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "hosts": options.hosts,
        "bandwidth": options.bandwidth,
        "tls": options.tls,
        "seconds": found,
        "bound": bound(options.hosts, options.bandwidth),
        "ratios": ratios(found, options.hosts),
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
