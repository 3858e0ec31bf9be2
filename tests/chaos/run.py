"""Chaos: many short runs whose processes are killed, stopped and paused at random, until so many faults have happened.

    python tests/chaos/run.py --faults 100 --seed 0

Every run must end with the digest of the undisturbed one, and leave no process, shared memory or temporary file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import gremlin
from gremlin import Gremlin

from distbp import Placement, Recipe, train
from distbp.run import RunDirectory

LONGEST_PAUSE_S = 1.2
FAULTS_PER_RUN = 6
RUN_TIMEOUT_S = 300.0
LEFT_TIMEOUT_S = 30.0

NARROW = {"model": {"hidden": [128], "dropout": 0.1}, "optimizer": {"clip_norm": 1.0}, "epochs": 40, "seed": 3}
WIDE = {"model": {"hidden": [512, 256]}, "global_batch_size": 96, "microbatch_size": 7, "epochs": 12}
CASES: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (NARROW, {"workers": 3}),
    (NARROW, {"workers": [2, 4], "checkpoint_every_steps": 40}),
    (WIDE, {"workers": 3, "servers": 3, "checkpoint_every_steps": 20}),
    (WIDE, {"workers": 2}),
)


class ChaosError(Exception):
    """A run ended otherwise than undisturbed, or left something behind."""


@dataclass
class Traces:
    """What a driver's processes were seen to be and to have: numbers with start times, and shared memory."""

    processes: set[tuple[int, str]] = field(default_factory=set)
    shared_memory: set[Path] = field(default_factory=set)

    def look(self, driver: int) -> None:
        """Take note of the processes that there are now."""
        pids = gremlin.descendants(driver)
        new = gremlin.identify(pids) - self.processes
        self.processes |= new
        self.shared_memory |= gremlin.shared_memory_of({pid for pid, _ in new})

    def left(self) -> list[str]:
        """Return what is still there."""
        alive = self.processes & gremlin.identify({pid for pid, _ in self.processes})
        files = [path for path in self.shared_memory if path.exists()]
        return [*(f"process {pid}" for pid, _ in alive), *(f"shared memory {path}" for path in files)]


@dataclass
class Sitting:
    """What has happened in one sitting."""

    num_faults: int
    gremlin: Gremlin
    folder: Path
    faults_per_run: int = FAULTS_PER_RUN
    digests: dict[str, str] = field(default_factory=dict)
    num_runs: int = 0
    recovery_s: list[float] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)
    ends_at: float = float("inf")

    def run_all(self) -> None:
        """Let runs suffer until there were enough faults. Raises ChaosError."""
        while self.gremlin.num_faults < self.num_faults and time.monotonic() < self.ends_at:
            recipe, placement = CASES[self.num_runs % len(CASES)]
            self._run_one(recipe, placement)
            self.num_runs += 1
            print(f"run {self.num_runs}: {self.gremlin.num_faults} of {self.num_faults} faults", flush=True)

    def _run_one(self, recipe: dict[str, Any], placement: dict[str, Any]) -> None:
        expected = self._expect(recipe)
        name = f"run-{self.num_runs}"
        config = self.folder / f"{name}.yaml"
        storage = str(self.folder / "runs")
        config.write_text(
            json.dumps({"recipe": recipe, "placement": {"backend": "ray", "storage": storage, **placement}})
        )
        found = None
        deadline = time.monotonic() + RUN_TIMEOUT_S
        self._until = min(self.num_faults, self.gremlin.num_faults + self.faults_per_run)
        while found is None:
            found = self._run_driver(config, name, deadline)
        if found["digest"] != expected:
            raise ChaosError(f"{name} ends with {found['digest']} instead of {expected}; seed and folder are kept")
        events = RunDirectory.open(found["run"]).read_events()
        self.recovery_s += [event["seconds"] for event in events if event["kind"] == "recovered"]
        self.restart_s += measure_restarts(self.gremlin.drivers_struck_at, events)
        self.gremlin.drivers_struck_at.clear()

    def _expect(self, recipe: dict[str, Any]) -> str:
        key = json.dumps(recipe)
        if key not in self.digests:
            placement = Placement(workers=1, storage=str(self.folder / "undisturbed"))
            self.digests[key] = train(Recipe.model_validate(recipe), placement).digest
        return self.digests[key]

    def _run_driver(self, config: Path, name: str, deadline: float) -> dict[str, Any] | None:
        """Start the command once and trouble it; returns its result, None if the gremlin ended it."""
        with tempfile.TemporaryDirectory(prefix="c") as temp_dir:  # a short name: Ray puts sockets below it
            driver = subprocess.Popen(
                [sys.executable, "-m", "distbp", "train", str(config), "--name", name, "--json"],
                env={**os.environ, "TMPDIR": temp_dir},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                seen = Traces()
                self._trouble(driver, deadline, seen)
                stdout, stderr = driver.communicate(timeout=max(1.0, deadline - time.monotonic()))
            finally:
                driver.kill()
            expect_gone(seen, Path(temp_dir))
        if driver.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM):
            return None
        if driver.returncode:
            raise ChaosError(f"{name} ended with exit code {driver.returncode}: {stderr[-2000:]}")
        return json.loads(stdout)

    def _trouble(self, driver: subprocess.Popen[str], deadline: float, seen: Traces) -> None:
        """Strike until the driver has ended or there were enough faults."""
        while driver.poll() is None and self.gremlin.num_faults < self._until and time.monotonic() < deadline:
            pause_until = time.monotonic() + self.gremlin.pause_s(LONGEST_PAUSE_S)
            while time.monotonic() < pause_until and driver.poll() is None:
                seen.look(driver.pid)
                time.sleep(0.1)
            self.gremlin.strike(driver.pid, lambda: driver.poll() is None and time.monotonic() < deadline)

    def describe(self) -> str:
        """Return what to quote."""
        kinds = ", ".join(f"{count} {name}" for name, count in self.gremlin.counts.items() if count)
        text = f"{self.gremlin.num_faults} faults ({kinds}) in {self.num_runs} runs: all digests equal, nothing left"
        text += describe_times("recoveries of a group", self.recovery_s)
        return text + describe_times("new drivers, from the blow to a formed group", self.restart_s)


def describe_times(what: str, seconds: list[float]) -> str:
    """Return number, median, 95th percentile and longest; '' for none."""
    if not seconds:
        return ""
    times = sorted(seconds)
    high = times[min(len(times) - 1, math.ceil(0.95 * len(times)) - 1)]
    return (
        f"; {len(times)} {what}: median {statistics.median(times):.2f} s, 95 % {high:.2f} s, longest {times[-1]:.2f} s"
    )


def measure_restarts(struck_at: list[float], events: list[dict[str, Any]]) -> list[float]:
    """Return the seconds from each blow to a driver to the next group that a driver formed."""
    formed = [datetime.fromisoformat(event["time"]).timestamp() for event in events if event["kind"] == "formed"]
    later = [[at for at in formed if at > blow] for blow in struck_at]
    return [found[0] - blow for found, blow in zip(later, struck_at, strict=True) if found]


def expect_gone(seen: Traces, temp_dir: Path) -> None:
    """Wait until nothing is left of a driver's processes, shared memory and temporary files. Raises ChaosError."""
    deadline = time.monotonic() + LEFT_TIMEOUT_S
    while left := [*seen.left(), *(f"file {path.name}" for path in temp_dir.iterdir())]:
        if time.monotonic() > deadline:
            raise ChaosError(f"left behind: {', '.join(left)}")
        time.sleep(0.1)


def run_chaos(
    num_faults: int,
    seed: int,
    folder: Path,
    faults_per_run: int = FAULTS_PER_RUN,
    minutes: float = float("inf"),
) -> Sitting:
    """Run until `num_faults` have happened or the minutes are over; returns the sitting. Raises ChaosError."""
    sitting = Sitting(num_faults, Gremlin(seed), folder, faults_per_run, ends_at=time.monotonic() + 60 * minutes)
    sitting.run_all()
    return sitting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults-per-run", type=int, default=FAULTS_PER_RUN)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so many")
    options = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="distbp-chaos-"))
    try:
        sitting = run_chaos(options.faults, options.seed, folder, options.faults_per_run, options.minutes)
        print(sitting.describe(), f"({time.monotonic() - began:.0f} s)")
    except ChaosError as error:
        sys.exit(f"{error} (seed {options.seed}, runs in {folder})")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
