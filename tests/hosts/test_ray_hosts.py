"""distbp on a Ray cluster of several hosts: the bytes of one process, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_hosts import HERE, namespace, processes_on, wait_until

from distbp import Placement, Recipe, train
from distbp.protocol.planning import server_slices

pytestmark = pytest.mark.ray

RECIPE = {"model": {"hidden": [600, 400]}, "global_batch_size": 200, "microbatch_size": 25, "epochs": 1}
KILLED = """
import sys
from hosts import make_hosts
from ray_hosts import RayOnHosts

with make_hosts(2) as hosts:
    cluster = RayOnHosts(hosts)
    print(*(host.pid for host in hosts), *cluster.wait_for_nodes(2), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def local_result(tmp_path_factory):
    storage = tmp_path_factory.mktemp("local")
    return train(Recipe.model_validate(RECIPE), Placement(workers=1, storage=str(storage)), name="run")


def test_every_host_is_a_node(cluster, four_hosts):
    assert cluster.wait_for_nodes(4) == [host.ip for host in four_hosts]


@pytest.mark.parametrize("servers", [1, 4])
def test_four_hosts_give_the_bytes_of_one_process(servers, cluster, four_hosts, local_result, tmp_path):
    assert len(server_slices(local_result.num_parameters, 4)) == 4
    config = tmp_path / "config.yaml"
    placement = {"backend": "ray", "workers": 4, "servers": servers, "address": cluster.address}
    config.write_text(json.dumps({"recipe": RECIPE, "placement": {**placement, "storage": str(tmp_path)}}))
    done = four_hosts[0].run(
        [sys.executable, "-m", "distbp", "train", str(config), "--json"], timeout_s=120, env=cluster.environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["backend"], found["workers"], found["digest"]) == ("ray", 4, local_result.digest)
    assert found["recoveries"] == 0


def test_no_process_or_file_of_a_cluster_is_left_when_its_harness_is_killed(tmp_path: Path):
    harness = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    *pids, first_ip, second_ip = harness.stdout.readline().split()
    networks = {namespace(pid) for pid in pids}
    sessions = [path for path in Path("/dev/shm").glob("ray") if path.stat().st_ctime > tmp_path.stat().st_ctime]
    assert (first_ip, second_ip) == ("10.77.0.1", "10.77.0.2")
    assert sessions == []
    assert len(processes_on(networks)) > 10
    harness.kill()
    harness.communicate(timeout=30)
    wait_until(lambda: processes_on(networks) == [])
