"""Hosts that die, are cut off and come back, join late, or compute otherwise: every step has the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import make_argv
from hosts import Host, make_hosts
from ray_hosts import RayOnHosts
from waiting import wait_until

from distbp import Placement, Recipe, train
from distbp.errors import ConfigError, StorageError
from distbp.nn.kernels import DISABLED, is_portable, list_simd, portable_variables
from distbp.run import RunDirectory

pytestmark = pytest.mark.ray

RECIPE = {
    "model": {"hidden": [64]},
    "global_batch_size": 240,
    "microbatch_size": 30,
    "epochs": 2000,
}  # more than a test waits for
END_TIMEOUT_S = 60.0
KERNELS = ("Haswell", "Sandybridge", "Nehalem")
"""Of the first host, of the second, and of a driver that agrees with neither."""


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> RunDirectory:
    """The run that nothing disturbs."""
    storage = tmp_path_factory.mktemp("whole")
    return RunDirectory.open(train(Recipe.model_validate(RECIPE), Placement(workers=1, storage=str(storage))).run)


@dataclass
class Running:
    """A `distbp train` on a host."""

    process: subprocess.Popen
    storage: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        try:
            events = RunDirectory.open(f"{self.storage}/run").read_events()
        except StorageError:  # it has only just begun
            return []
        return [event for event in events if event["kind"] == kind]

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(lambda: condition() or self._has_ended())

    def until_workers(self, count: int) -> None:
        """Wait until the newest group has so many workers and has done steps."""
        self.until(lambda: [event["workers"] for event in self.events("formed")][-1:] == [count])

    def num_steps(self) -> int:
        return len(RunDirectory.open(f"{self.storage}/run").read_steps())

    def stop(self) -> tuple[int, dict[str, Any], str]:
        """Let it do some more steps and end it with SIGTERM; returns exit code, document and messages."""
        done = self.num_steps()
        self.until(lambda: self.num_steps() > done + 50)
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self) -> tuple[int, dict[str, Any], str]:
        stdout, stderr = self.process.communicate(timeout=END_TIMEOUT_S)
        return self.process.returncode, json.loads(stdout), stderr

    def _has_ended(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        return False


@pytest.fixture
def start(tmp_path):
    """Starts training on a host of a cluster; ends it with the test."""
    started = []

    def call(
        host: Host, cluster: RayOnHosts, workers: int | list[int], more: dict[str, Any] | None = None, **variables: str
    ) -> Running:
        config = tmp_path / "config.yaml"
        placement = {"backend": "ray", "workers": workers, "address": cluster.address, "storage": str(tmp_path)}
        placement |= more or {}
        config.write_text(json.dumps({"recipe": RECIPE, "placement": placement}))
        argv = make_argv("train", str(config), "--name", "run", "--json")
        environment = {**cluster.environment, **variables}
        process = host.popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return Running(process, tmp_path)

    yield call
    for process in started:
        process.kill()
        process.communicate()


def expect_same(running: Running, whole: RunDirectory) -> None:
    """Every step so far and some more have the bytes of the whole run."""
    code, _, stderr = running.stop()
    assert code == 128 + signal.SIGTERM, stderr
    steps = RunDirectory.open(f"{running.storage}/run").read_steps()
    assert len(steps) > 50
    assert [(r.step, r.checksum) for r in steps] == [(r.step, r.checksum) for r in whole.read_steps()[: len(steps)]]


def test_a_run_grows_onto_a_host_that_joins_and_outlives_one_that_loses_power(start, whole):
    with make_hosts(3) as hosts:
        cluster = RayOnHosts(hosts[:2])
        running = start(hosts[0], cluster, [2, 3])
        running.until_workers(2)
        cluster.add(hosts[2:])
        running.until_workers(3)
        hosts[1].disconnect()
        hosts[1].kill()
        running.until(lambda: running.events("recovered"))
        expect_same(running, whole)
    (lost,) = running.events("lost")
    assert "node host-1" in lost["reason"]
    assert (lost["action"], lost["left"]) == ("shrink", 2)
    assert len(running.events("recovered")) == 1


def test_a_host_that_was_cut_off_cannot_commit_when_it_returns(start, whole):
    with make_hosts(3) as hosts:
        cluster = RayOnHosts(hosts)
        running = start(hosts[0], cluster, 3)
        running.until_workers(3)
        hosts[2].disconnect()
        running.until(lambda: running.events("recovered"))
        hosts[2].reconnect()
        expect_same(running, whole)
    lost = running.events("lost")[0]
    assert "node host-2" in lost["reason"]
    assert "has not answered" in lost["reason"]
    assert running.events("recovered")[0]["seconds"] < 30


@pytest.fixture(scope="module")
def mixed() -> RayOnHosts:
    """A cluster whose second host has another kernel than the first; skipped where they compute the same."""
    if len({_probe(kernel) for kernel in KERNELS}) < len(KERNELS):
        pytest.skip(f"the kernels {', '.join(KERNELS)} do not all compute otherwise on this machine")
    with make_hosts(2) as hosts:
        cluster = RayOnHosts(hosts[:1], variables={"OPENBLAS_CORETYPE": KERNELS[0]})
        cluster.environment["OPENBLAS_CORETYPE"] = KERNELS[1]
        cluster.add(hosts[1:])
        cluster.wait_for_nodes(2)
        yield cluster, hosts


def _probe(kernel: str) -> str:
    code = "from distbp.nn.numerics import whole_probe; print(whole_probe())"
    environment = {"PATH": "", "OPENBLAS_CORETYPE": kernel}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_worker_with_other_arithmetic_is_refused_and_the_others_go_on(mixed, start):
    cluster, hosts = mixed
    running = start(hosts[0], cluster, 2, OPENBLAS_CORETYPE=KERNELS[0])
    running.until_workers(1)
    code, _, stderr = running.stop()
    assert code == 128 + signal.SIGTERM, stderr
    assert running.events("lost") == []
    assert [event["workers"] for event in running.events("formed")] == [1]
    (refused,) = running.events("refused")
    assert "node 'host-1' computes other floating-point results" in refused["text"]
    assert "placement.portable=true" in stderr


def test_a_run_whose_workers_all_compute_otherwise_ends_with_the_reason_and_the_fix(mixed, start):
    cluster, hosts = mixed
    running = start(hosts[0], cluster, 2, OPENBLAS_CORETYPE=KERNELS[2])
    code, found, _ = running.finish()
    assert (code, found["error"]["kind"]) == (8, "NumericsError")
    assert "placement.portable=true" in found["error"]["message"]


@pytest.fixture(scope="module")
def unlike() -> Iterator[tuple[RayOnHosts, list[Host]]]:
    """Hosts as of different CPUs: one uses all that this one has, NumPy and OpenBLAS of the other no more than AVX2."""
    try:
        variables = portable_variables()
    except ConfigError as error:
        pytest.skip(str(error))
    if is_portable() or not set(list_simd()) & set(variables[DISABLED].split(",")):
        pytest.skip("this CPU has no features beyond AVX2")
    with make_hosts(2) as hosts:
        cluster = RayOnHosts(hosts[:1])
        own = dict(cluster.environment)
        cluster.environment.update(variables)
        cluster.add(hosts[1:])
        cluster.environment = own
        cluster.wait_for_nodes(2)
        yield cluster, hosts


WIDE = {"model": {"hidden": [64], "activation": "tanh"}, "dtype": "float64", "global_batch_size": 240, "epochs": 3}


def train_on(hosts: list[Host], cluster: RayOnHosts, folder: Path, name: str, placement: dict) -> tuple[int, dict, Any]:
    config = folder / f"{name}.yaml"
    config.write_text(json.dumps({"recipe": WIDE, "placement": {"storage": str(folder), **placement}}))
    argv = make_argv("train", str(config), "--name", name, "--json")
    done = hosts[0].run(argv, timeout_s=180, env=cluster.environment)
    events = RunDirectory.open(f"{folder}/{name}").read_events()
    return done.returncode, json.loads(done.stdout), [(e["kind"], e.get("workers")) for e in events]


def test_unlike_hosts_compute_the_same_bits_with_portable_kernels_and_are_refused_without(unlike, tmp_path):
    cluster, hosts = unlike
    ray = {"backend": "ray", "workers": 2, "address": cluster.address}
    _, alone, _ = train_on(hosts, cluster, tmp_path, "alone", {"workers": 1, "portable": True})
    code, found, events = train_on(hosts, cluster, tmp_path, "both", {**ray, "portable": True})
    assert (code, found["digest"]) == (0, alone["digest"])
    assert ("formed", 2) in events
    assert "refused" not in dict(events)
    code, found, events = train_on(hosts, cluster, tmp_path, "own", ray)
    assert "refused" in dict(events)
    assert ("formed", 1) in events
    assert found["digest"] != alone["digest"]


def test_doctor_names_unlike_hosts_and_what_portable_kernels_cost(unlike, tmp_path):
    cluster, hosts = unlike
    levels = {}
    for switch in ("false", "true"):
        words = ["doctor", "--address", cluster.address, "--storage", str(tmp_path), "--json"]
        words += ["--set", f"placement.portable={switch}"]
        done = hosts[0].run(make_argv(*words), timeout_s=180, env=cluster.environment)
        findings = {finding["topic"]: finding for finding in json.loads(done.stdout)["findings"]}
        levels[switch] = findings["numerics"]["level"], findings["kernels"]["level"]
        assert "portable kernels reach" in findings["kernels"]["fact"]
        assert (f"on {hosts[1].ip}" in findings["kernels"]["fact"]) == (switch == "false")
    assert levels == {"false": ("problem", "warning"), "true": ("ok", "ok")}
