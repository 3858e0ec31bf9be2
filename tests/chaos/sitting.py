"""One sitting of chaos: runs are started, troubled by a gremlin, started again if need be, and compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import gremlin
from chaos_figures import Figures
from gremlin import Gremlin
from shared_ray import shared_ray
from traces import ChaosError, Traces, expect_gone

from distbp import Placement, Recipe, train
from distbp.run import RunDirectory
from distbp.run.records import STEPS_FILE

LONGEST_PAUSE_S = 0.8
FAULTS_PER_RUN = 6
RUN_TIMEOUT_S = 300.0
WORK_TIMEOUT_S = 30.0
CLUSTER_UNREACHABLE = 7
ENDED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a driver that the gremlin has ended."""

NARROW = {"model": {"hidden": [128], "dropout": 0.1}, "optimizer": {"clip_norm": 1.0}, "seed": 3}
WIDE = {"model": {"hidden": [512, 256]}, "global_batch_size": 96, "microbatch_size": 7}


@dataclass(frozen=True)
class Case:
    """A run to trouble. epochs: for each fault of the run, so that there is something to do between two."""

    recipe: dict[str, Any]
    placement: dict[str, Any]
    epochs: int


CASES = (
    Case(NARROW, {"workers": 3}, 8),
    Case(NARROW, {"workers": [2, 4], "checkpoint_every_steps": 40}, 8),
    Case(WIDE, {"workers": 3, "servers": 3, "checkpoint_every_steps": 20}, 2),
    Case(WIDE, {"workers": 2}, 2),
)
NUM_CPUS = 4


@dataclass
class Sitting:
    """What has happened in one sitting.

    num_faults: after so many it ends. address: of a Ray that all drivers join; None: each starts its own.
    expected: the digests of undisturbed runs, by recipe. after_run: is called with the figures after every run.
    """

    num_faults: int
    gremlin: Gremlin
    folder: Path
    faults_per_run: int = FAULTS_PER_RUN
    address: str | None = None
    ends_at: float = float("inf")
    expected: dict[str, str] = field(default_factory=dict)
    after_run: Callable[[Figures], None] = lambda _: None
    figures: Figures = field(default_factory=Figures)

    def run_all(self) -> None:
        """Let runs suffer until there were enough faults. Raises ChaosError."""
        began = time.monotonic()
        while self.gremlin.num_faults < self.num_faults and time.monotonic() < self.ends_at:
            self._run_one(CASES[self.figures.num_runs % len(CASES)])
            self.figures.num_runs += 1
            self.figures.faults = dict(self.gremlin.counts)
            self.figures.seconds = time.monotonic() - began
            self.after_run(self.figures)

    def _run_one(self, case: Case) -> None:
        recipe = {**case.recipe, "epochs": case.epochs * self.faults_per_run}
        expected = self._expect(recipe)
        name = f"run-{self.figures.num_runs}"
        config = self.folder / f"{name}.yaml"
        placement = {"backend": "ray", "storage": str(self.folder / "runs"), "max_failures": -1, **case.placement}
        config.write_text(json.dumps({"recipe": recipe, "placement": {**placement, "address": self.address}}))
        found = None
        deadline = time.monotonic() + RUN_TIMEOUT_S
        self._until = min(self.num_faults, self.gremlin.num_faults + self.faults_per_run)
        while found is None:
            found = self._run_driver(config, name, deadline)
        if found["digest"] != expected:
            raise ChaosError(f"{name} ends with {found['digest']} instead of {expected}; seed and folder are kept")
        events = RunDirectory.open(found["run"]).read_events()
        self.figures.num_in_time += found["preemptions"]
        self.figures.recovery_s += [event["seconds"] for event in events if event["kind"] == "recovered"]
        self.figures.restart_s += measure_restarts(self.gremlin.drivers_struck_at, events)
        self.gremlin.drivers_struck_at.clear()

    def _expect(self, recipe: dict[str, Any]) -> str:
        key = json.dumps(recipe)
        if key not in self.expected:
            placement = Placement(workers=1, storage=str(self.folder / "undisturbed"))
            self.expected[key] = train(Recipe.model_validate(recipe), placement).digest
        return self.expected[key]

    def _run_driver(self, config: Path, name: str, deadline: float) -> dict[str, Any] | None:
        """Start the command once and trouble it; returns its result, None if the gremlin ended it."""
        num_broken = self.gremlin.num_broken
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
                self._trouble(driver, name, deadline, seen)
                stdout, stderr = driver.communicate(timeout=max(1.0, deadline - time.monotonic()))
            finally:
                driver.kill()
            expect_gone(seen, Path(temp_dir))
        if driver.returncode in ENDED:
            return None
        if driver.returncode == CLUSTER_UNREACHABLE and self.gremlin.num_broken > num_broken:
            return None
        if driver.returncode:
            raise ChaosError(f"{name} ended with exit code {driver.returncode}: {stderr[-2000:]}")
        return json.loads(stdout)

    def _trouble(self, driver: subprocess.Popen[str], name: str, deadline: float, seen: Traces) -> None:
        """Strike until the driver has ended or there were enough faults."""
        until = min(deadline, self.ends_at)

        def is_running() -> bool:
            return driver.poll() is None and time.monotonic() < until

        while is_running() and self.gremlin.num_faults < self._until:
            pause_until = time.monotonic() + self.gremlin.pause_s(LONGEST_PAUSE_S)
            while time.monotonic() < pause_until and is_running():
                seen.look(self._processes_of(driver.pid))
                time.sleep(0.1)
            if self.gremlin.is_patient():
                self._await_work(name, is_running, lambda: seen.look(self._processes_of(driver.pid)))
            self.gremlin.strike(driver.pid, self._root(driver.pid), is_running)

    def _await_work(self, name: str, is_running: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
        """Wait until the run has done some more steps, so that the next fault meets a group at work."""
        steps = self.folder / "runs" / name / STEPS_FILE
        done = steps.stat().st_size if steps.exists() else 0
        until = time.monotonic() + WORK_TIMEOUT_S
        while is_running() and time.monotonic() < until and not (steps.exists() and steps.stat().st_size > done):
            meanwhile()
            time.sleep(0.1)

    def _root(self, driver: int) -> int:
        """Return the process below which the actors are: Ray is the driver's, or of all drivers."""
        return driver if self.address is None else os.getpid()

    def _processes_of(self, driver: int) -> set[int]:
        """Return what has to be gone when the driver has ended. Of a shared Ray these are its actors."""
        actors = () if self.address is None else gremlin.actors_below(os.getpid())
        return gremlin.descendants(driver) | set(actors)


def measure_restarts(struck_at: list[float], events: list[dict[str, Any]]) -> list[float]:
    """Return the seconds from each blow to a driver to the next group that a driver formed."""
    formed = [datetime.fromisoformat(event["time"]).timestamp() for event in events if event["kind"] == "formed"]
    later = [[at for at in formed if at > blow] for blow in struck_at]
    return [found[0] - blow for found, blow in zip(later, struck_at, strict=True) if found]


def run_chaos(
    num_faults: int,
    seed: int,
    folder: Path,
    faults_per_run: int = FAULTS_PER_RUN,
    minutes: float = float("inf"),
    is_shared: bool = False,
    expected: dict[str, str] | None = None,
    after_run: Callable[[Figures], None] = lambda _: None,
) -> Figures:
    """Run until `num_faults` have happened or the minutes are over. Raises ChaosError.

    is_shared: whether all drivers use one Ray, which outlives them. expected: known digests, completed here.
    """
    ends_at = time.monotonic() + 60 * minutes
    kinds = gremlin.OF_A_CLUSTER if is_shared else gremlin.KINDS
    with shared_ray(NUM_CPUS) if is_shared else nullcontext() as address:
        known = {} if expected is None else expected
        sitting = Sitting(num_faults, Gremlin(seed, kinds), folder, faults_per_run, address, ends_at, known, after_run)
        sitting.run_all()
    return sitting.figures
