"""Chaos on hosts: links cut and mended, power lost, and preemption, at random, while one run trains over all of them.

    python tests/hosts/link_chaos.py --faults 20 --seed 0 [--json FILE]

Takes root. Every step must have the bytes of the undisturbed run. Figures of several sittings are added up by
`python tests/chaos/run.py --sum FILE...`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS), str(TESTS / "chaos")]  # where pytest has not done so

from chaos_figures import Figures  # noqa: E402
from command_line import make_argv  # noqa: E402
from hosts import Host, make_hosts  # noqa: E402
from ray_hosts import RayOnHosts  # noqa: E402

from distbp import Placement, Recipe, train  # noqa: E402
from distbp.errors import StorageError  # noqa: E402
from distbp.run import RunDirectory  # noqa: E402

NUM_HOSTS = 3
RECIPE = {"model": {"hidden": [64]}, "global_batch_size": 240, "microbatch_size": 30, "epochs": 100_000}
STEPS_PER_EPOCH = 6
STEP_TIMEOUT_S = 120.0
NOTICE_S = 60
LONGEST_PAUSE_S = 3.0
STEPS_AFTER = 50


class HostChaosError(Exception):
    """A run did not go on, or went on otherwise than undisturbed."""


class HostChaos:
    """A run over hosts, of which the first, with the driver and Ray's head, is spared."""

    def __init__(self, hosts: list[Host], cluster: RayOnHosts, folder: Path, seed: int):
        """Start the run."""
        self._hosts = hosts
        self._cluster = cluster
        self._random = random.Random(seed)
        self._run = folder / "run"
        self.counts = Counter[str]()
        config = folder / "config.yaml"
        placement = {"backend": "ray", "workers": [1, NUM_HOSTS], "address": cluster.address, "storage": str(folder)}
        config.write_text(json.dumps({"recipe": RECIPE, "placement": {**placement, "max_failures": -1}}))
        argv = make_argv("train", config, "--name", "run", "--json")
        self.driver = hosts[0].popen(
            argv, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def sit(self, num_faults: int, ends_at: float) -> None:
        """Inflict the faults one after the other, each once the run does steps again."""
        kinds = (self._cut_for_a_moment, self._cut_until_noticed, self._lose_power, self._preempt)
        self._await_steps()
        while self.counts.total() < num_faults and time.monotonic() < ends_at:
            (fault,) = self._random.choices(kinds, (4, 4, 1, 1))
            fault(self._random.choice(self._hosts[1:]))
            self._await_steps()
            time.sleep(self._random.uniform(0.0, LONGEST_PAUSE_S))

    def end(self) -> None:
        """End the run in order."""
        self.driver.send_signal(signal.SIGTERM)
        _, stderr = self.driver.communicate(timeout=STEP_TIMEOUT_S)
        if self.driver.returncode != 128 + signal.SIGTERM:
            raise HostChaosError(f"exit code {self.driver.returncode}: {stderr[-2000:]}")

    def steps(self) -> list[tuple[int, str]]:
        """Return the checksum of every step so far."""
        try:
            return [(record.step, record.checksum) for record in RunDirectory.open(str(self._run)).read_steps()]
        except StorageError:  # it has only just begun
            return []

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind so far."""
        try:
            return [event for event in RunDirectory.open(str(self._run)).read_events() if event["kind"] == kind]
        except StorageError:
            return []

    def _cut_for_a_moment(self, host: Host) -> None:
        host.disconnect()
        time.sleep(self._random.uniform(0.1, 4.0))
        host.reconnect()
        self.counts["link cut for a moment"] += 1

    def _cut_until_noticed(self, host: Host) -> None:
        """Where the host has no worker, nobody notices."""
        before = len(self.events("recovered"))
        host.disconnect()
        self._try(lambda: len(self.events("recovered")) > before, 30.0)
        host.reconnect()
        self.counts["link cut for 30 s, or until the others had gone on"] += 1

    def _lose_power(self, host: Host) -> None:
        host.disconnect()
        host.kill()
        self._boot(host)
        self.counts["power lost, then booted"] += 1

    def _preempt(self, host: Host) -> None:
        self._cluster.drain(host, NOTICE_S)
        before = len(self.events("left"))
        self._try(lambda: len(self.events("left")) > before, 10.0)
        host.kill()
        self._boot(host)
        self.counts["preempted, then booted"] += 1

    def _boot(self, host: Host) -> None:
        host.boot()
        self._cluster.add([host])

    def _await_steps(self) -> None:
        """Wait until steps are done again: more than may have been under way."""
        done = len(self.steps())
        if not self._try(lambda: len(self.steps()) >= done + STEPS_AFTER, STEP_TIMEOUT_S):
            raise HostChaosError(f"no {STEPS_AFTER} steps within {STEP_TIMEOUT_S:.0f} s after {dict(self.counts)}")

    def _try(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.driver.poll() is not None:
                raise HostChaosError(f"the run ended with {self.driver.returncode}: {self.driver.communicate()}")
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True


def undisturbed(num_steps: int, folder: Path) -> list[tuple[int, str]]:
    """Return the checksums of the first steps, and some more, of a run in one process."""
    recipe = Recipe.model_validate({**RECIPE, "epochs": num_steps // STEPS_PER_EPOCH + 1})
    result = train(recipe, Placement(workers=1, storage=str(folder / "whole")))
    return [(record.step, record.checksum) for record in RunDirectory.open(result.run).read_steps()]


def run_link_chaos(num_faults: int, seed: int, folder: Path, minutes: float = float("inf")) -> Figures:
    """Let one run suffer. Raises HostChaosError."""
    began = time.monotonic()
    with make_hosts(NUM_HOSTS) as hosts:
        chaos = HostChaos(hosts, RayOnHosts(hosts), folder, seed)
        try:
            chaos.sit(num_faults, began + 60 * minutes)
            chaos.end()
        finally:
            chaos.driver.kill()
    steps = chaos.steps()
    if steps != undisturbed(len(steps), folder)[: len(steps)]:
        raise HostChaosError(f"other bytes than undisturbed; seed {seed}, runs in {folder}")
    recovery_s = [event["seconds"] for event in chaos.events("recovered")]
    seconds = time.monotonic() - began
    return Figures(dict(chaos.counts), 1, len(chaos.events("left")), recovery_s, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no fault after so many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distbp-link-chaos-") as folder:
        figures = run_link_chaos(options.faults, options.seed, Path(folder), options.minutes)
    if options.json is not None:
        figures.write(options.json)
    print(figures.describe())


if __name__ == "__main__":
    main()
