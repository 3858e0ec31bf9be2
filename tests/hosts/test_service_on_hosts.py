"""The service on hosts with networks of their own: a laptop that is in no cluster, and Ray nodes that get lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import make_argv
from hosts import Host, make_hosts
from ray_hosts import RayOnHosts
from waiting import wait_until

from distbp import load_config, train

pytestmark = pytest.mark.ray

TOKEN = "only-for-this-test-" + "1" * 32
SETTINGS = ["epochs=120", "checkpoint_every_steps=200"]
WAIT_S = 150.0


@dataclass(frozen=True)
class Laptop:
    """A host that is in no cluster. cluster: whose job server it talks to."""

    host: Host
    cluster: RayOnHosts
    head: Host

    def start(self, *argv: object, **variables: str) -> subprocess.Popen:
        """Start a command of distbp."""
        address = f"http://{self.head.ip}:8265"
        return self.host.popen(
            make_argv(*argv, "--address", address, "--json"),
            env={**self.cluster.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def distbp(self, *argv: object, **variables: str) -> tuple[int, dict[str, Any], str]:
        """Run a command of distbp to its end; returns exit code, document and notes."""
        return finish(self.start(*argv, **variables))

    def submit(self, name: str, storage: Path, *options: object) -> subprocess.Popen:
        sets = [word for setting in SETTINGS for word in ("--set", setting)]
        return self.start("submit", *sets, "--storage", storage, "--name", name, "--follow", *options)


def finish(process: subprocess.Popen) -> tuple[int, dict[str, Any], str]:
    try:
        stdout, stderr = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    return process.returncode, json.loads(stdout), stderr


def count_steps(run: Path) -> int:
    steps = run / "steps.jsonl"
    return steps.read_text().count("\n") if steps.exists() else 0


def read_kinds(run: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (run / "events.jsonl").read_text().splitlines()]


def start_cluster(nodes: list[Host]) -> RayOnHosts:
    python = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return RayOnHosts(nodes, token=TOKEN, variables=python, dashboard=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    with make_hosts(4) as found:
        yield found


@pytest.fixture(scope="module")
def laptop(hosts) -> Laptop:
    *nodes, outside = hosts
    return Laptop(outside, start_cluster(nodes), nodes[0])


@pytest.fixture(scope="module")
def local_digest(tmp_path_factory) -> str:
    storage = tmp_path_factory.mktemp("local")
    config = load_config(None, [*SETTINGS, f"placement.storage={storage}"])
    return train(config.recipe, config.placement, name="run").digest


def test_run_survives_a_lost_node_and_a_stop_and_ends_with_the_digest_of_one_process(
    laptop, hosts, local_digest, tmp_path
):
    run = tmp_path / "far"
    following = laptop.submit("far", tmp_path, "--workers", "[2, 3]")
    wait_until(lambda: count_steps(run) > 100)
    hosts[2].kill()
    wait_until(lambda: "recovered" in read_kinds(run))
    code, job, notes = laptop.distbp("stop", "far", "--wait")
    assert (code, job.get("status")) == (0, "STOPPED"), (job, notes)
    code, job, notes = finish(following)
    assert (code, job.get("status")) == (143, "STOPPED"), (job, notes)
    assert "checkpointed; the same command resumes" in notes
    assert not (run / "result.json").exists()

    hosts[2].boot()
    laptop.cluster.add([hosts[2]])
    code, job, notes = finish(laptop.submit("far", tmp_path, "--workers", "[2, 3]"))
    assert (code, job.get("status")) == (0, "SUCCEEDED"), (job, notes)
    assert "resuming 'far' after step" in notes
    assert job["result"]["digest"] == local_digest
    assert job["result"]["recoveries"] >= 1


def test_two_runs_at_once_share_the_cluster_in_turn(laptop, local_digest, tmp_path):
    both = [laptop.submit(name, tmp_path, "--workers", "2") for name in ("left", "right")]
    ended = [finish(process) for process in both]
    assert [(code, job["result"]["digest"]) for code, job, _ in ended] == [(0, local_digest)] * 2
    assert sum("waiting in line" in notes for _, _, notes in ended) == 1


def test_wrong_token_is_refused(laptop):
    code, document, _ = laptop.distbp("list", RAY_AUTH_TOKEN="another")
    assert code == 7
    assert "refused the token" in document["error"]["message"]


def test_run_of_a_lost_head_goes_on_in_a_new_cluster_on_the_same_storage(laptop, hosts, local_digest, tmp_path):
    run = tmp_path / "moved"
    following = laptop.submit("moved", tmp_path, "--workers", "2")
    wait_until(lambda: count_steps(run) > 300)
    *nodes, outside = hosts
    for node in nodes:
        node.kill()
    code, document, _ = finish(following)
    assert (code, document["error"]["kind"]) == (7, "ClusterError")
    *two, _ = nodes
    for node in two:
        node.boot()
    anew = Laptop(outside, start_cluster(two), two[0])
    code, job, notes = finish(anew.submit("moved", tmp_path, "--workers", "2"))
    assert (code, job.get("status")) == (0, "SUCCEEDED"), (job, notes)
    assert "resuming 'moved' after step" in notes
    assert job["result"]["digest"] == local_digest
