"""Hosts that will be taken away, and say so: the run leaves them in time, and does no step twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, make_hosts
from ray._private import ray_constants
from ray_hosts import RayOnHosts
from test_host_faults import Running, start  # noqa: F401 - a fixture
from waiting import wait_until

from distbp import Placement, Recipe, train
from distbp.run import RunDirectory

pytestmark = pytest.mark.ray

LEFT_S = 60
"""Seconds that a notice gives: more than the run needs to leave."""
WIDE = {
    "model": {"hidden": [600, 400]},
    "global_batch_size": 240,
    "microbatch_size": 30,
    "epochs": 2000,
}  # of several blocks, so that there are several servers


@pytest.fixture
def wide(monkeypatch) -> None:
    monkeypatch.setattr("test_host_faults.RECIPE", WIDE)


@pytest.fixture(scope="module")
def checksums(tmp_path_factory) -> list[tuple[int, str]]:
    """Those of the first steps of a run that nothing disturbs."""
    recipe = Recipe.model_validate({**WIDE, "epochs": 60})
    result = train(recipe, Placement(workers=1, storage=str(tmp_path_factory.mktemp("whole"))))
    return [(record.step, record.checksum) for record in RunDirectory.open(result.run).read_steps()]


def read(running: Running) -> RunDirectory:
    return RunDirectory.open(f"{running.storage}/run")


def expect_nothing_lost(running: Running, checksums: list[tuple[int, str]]) -> dict[str, Any]:
    """End the run: it has done every step once, with the bytes of the undisturbed run. Returns its position."""
    code, _, stderr = running.stop()
    assert code == 128 + signal.SIGTERM, stderr
    steps = [(record.step, record.checksum) for record in read(running).read_steps()]
    count = min(len(steps), len(checksums))
    assert count > 50
    assert steps[:count] == checksums[:count]
    assert running.events("lost") == running.events("recovering") == []
    position = newest_position(running.storage / "run")
    assert (position["recoveries"], position["recomputing_s"]) == (0, 0.0)
    return position


def newest_position(run: Path) -> dict[str, Any]:
    newest = max((run / "checkpoints").iterdir())
    return json.loads((newest / "manifest.json").read_text())["position"]


@pytest.mark.usefixtures("wide")
def test_servers_and_shards_leave_hosts_that_ray_drains(start, checksums):  # noqa: F811
    with make_hosts(3) as hosts:
        cluster = RayOnHosts(hosts)
        running = start(hosts[0], cluster, 3)
        running.until_workers(3)
        for left, host in ((2, hosts[1]), (1, hosts[2])):
            cluster.drain(host, LEFT_S)
            running.until_workers(left)
        position = expect_nothing_lost(running, checksums)
    assert position["preemptions"] == 2
    assert ["host-1" in event["text"] for event in running.events("left")] == [True, False]
    assert "Ray drains its node" in running.events("leaving")[0]["text"]
    assert "s left" in running.events("leaving")[0]["text"]


@pytest.mark.usefixtures("wide")
def test_the_only_worker_works_on_until_another_host_has_started_one(start, checksums):  # noqa: F811
    with make_hosts(3) as hosts:
        cluster = RayOnHosts(hosts[:1], cpus_per_host=0)
        cluster.add(hosts[1:2], cpus=1)
        running = start(hosts[0], cluster, 1)
        running.until_workers(1)
        cluster.add(hosts[2:], cpus=1)
        cluster.drain(hosts[1], LEFT_S)
        running.until(lambda: running.events("left"))
        wait_until(lambda: cluster.list_reservations() == [])  # nothing asks for another node in place of the one left
        position = expect_nothing_lost(running, checksums)
    kinds = [event["kind"] for event in read(running).read_events()]
    order = [kind for kind in kinds if kind in ("leaving", "joined", "left")]
    assert order[:4] == ["joined", "leaving", "joined", "left"]
    assert position["preemptions"] == 1


@pytest.mark.usefixtures("wide")
def test_a_node_whose_own_process_gets_sigterm_is_left_in_time(start, checksums):  # noqa: F811
    if not hasattr(ray_constants, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"):
        pytest.skip("this version of Ray does not drain a node whose process gets SIGTERM")
    with make_hosts(2) as hosts:
        cluster = RayOnHosts(hosts[:1])
        node = cluster.add_in_foreground(hosts[1])
        cluster.wait_for_nodes(2)
        running = start(hosts[0], cluster, 2)
        running.until_workers(2)
        node.send_signal(signal.SIGTERM)
        running.until(lambda: running.events("left"))
        node.communicate(timeout=60)  # the node ends when nothing runs there any more
        position = expect_nothing_lost(running, checksums)
    assert position["preemptions"] == 1


@pytest.mark.usefixtures("wide")
def test_a_driver_on_a_node_that_drains_saves_and_says_what_to_type(start, checksums):  # noqa: F811
    def go_on(host: Host) -> Running:
        return start(host, cluster, [1, 2])

    with make_hosts(3) as hosts:
        cluster = RayOnHosts(hosts[:1], cpus_per_host=0)
        cluster.add(hosts[1:], cpus=1)
        running = go_on(hosts[1])
        running.until_workers(2)
        cluster.drain(hosts[1], LEFT_S)
        code, found, stderr = running.finish()
        assert code == 128 + signal.SIGTERM, stderr
        message = found["error"]["message"]
        assert "the driver has to leave this machine: Ray drains its node" in message
        assert "checkpointed; give the same command on another machine to go on" in message
        saved = newest_position(running.storage / "run")["step"]
        assert f"stopped after step {saved} of" in message
        running = go_on(hosts[0])
        running.until(lambda: running.num_steps() > saved + 50)
        expect_nothing_lost(running, checksums)


@pytest.mark.usefixtures("wide")
def test_a_host_that_loses_power_with_its_server_costs_no_step_where_another_keeps_its_state(start, checksums):  # noqa: F811
    more = {"server_outlives": "node", "checkpoint_every_steps": 1_000_000}
    with make_hosts(3) as hosts:
        running = start(hosts[0], RayOnHosts(hosts), 3, more)
        running.until_workers(3)
        hosts[1].disconnect()
        hosts[1].kill()
        running.until(lambda: running.events("recovered"))
        code, _, stderr = running.stop()
        assert code == 128 + signal.SIGTERM, stderr
    (recovering,) = running.events("recovering")
    assert (recovering["state"], recovering["redone"]) == ("server", 0)
    steps = [(record.step, record.checksum) for record in read(running).read_steps()]
    count = min(len(steps), len(checksums))
    assert steps[:count] == checksums[:count]
    assert newest_position(running.storage / "run")["recomputing_s"] == 0
