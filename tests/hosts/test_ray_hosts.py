"""distbp on a Ray cluster of several hosts: the bytes of one process, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import make_argv
from test_hosts import processes_on, start_harness
from waiting import wait_until

from distbp import Placement, Recipe, train
from distbp.protocol.planning import server_slices

pytestmark = pytest.mark.ray

RECIPE = {"model": {"hidden": [600, 400]}, "global_batch_size": 200, "microbatch_size": 25, "epochs": 1}
CLUSTER = """
import sys
from hosts import make_hosts
from ray_hosts import RayOnHosts

with make_hosts(2) as hosts:
    RayOnHosts(hosts)
    print(*(host.pid for host in hosts), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def local_result(tmp_path_factory):
    storage = tmp_path_factory.mktemp("local")
    return train(Recipe.model_validate(RECIPE), Placement(workers=1, storage=str(storage)), name="run")


def test_every_host_is_a_node_with_a_cpu_of_its_own(cluster, four_hosts):
    """So four workers, which need a CPU each, are on four hosts."""
    assert cluster.wait_for_nodes(4) == [host.ip for host in four_hosts]


@pytest.mark.parametrize("servers", [1, 4])
def test_four_hosts_give_the_bytes_of_one_process(servers, cluster, four_hosts, local_result, tmp_path):
    assert len(server_slices(local_result.num_parameters, 4)) == 4
    config = tmp_path / "config.yaml"
    placement = {"backend": "ray", "workers": 4, "servers": servers, "address": cluster.address}
    config.write_text(json.dumps({"recipe": RECIPE, "placement": {**placement, "storage": str(tmp_path)}}))
    done = four_hosts[0].run(make_argv("train", str(config), "--json"), timeout_s=120, env=cluster.environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["backend"], found["workers"], found["digest"]) == ("ray", 4, local_result.digest)
    assert found["recoveries"] == 0


def test_no_process_or_file_of_a_cluster_is_left_when_its_harness_is_killed(tmp_path: Path):
    with start_harness(CLUSTER, TMPDIR=str(tmp_path)) as (harness, networks):
        assert len(processes_on(networks)) > 10
        harness.kill()
        wait_until(lambda: processes_on(networks) == [])
    assert list(tmp_path.iterdir()) == []
