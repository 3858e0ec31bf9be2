"""`distbp doctor` on a cluster of unlike hosts."""

from __future__ import annotations

import json

import pytest
from command_line import make_argv
from ray_hosts import RayOnHosts

pytestmark = pytest.mark.ray


def test_doctor_names_the_node_that_computes_other_bits_and_does_not_share_storage(two_hosts, tmp_path):
    cluster = RayOnHosts(two_hosts[:1], token="only-for-this-test-" + "0" * 32)
    cluster.environment["OPENBLAS_CORETYPE"] = "Sandybridge"
    cluster.add(two_hosts[1:])
    cluster.wait_for_nodes(2)

    def examine(storage: str) -> tuple[int, dict[str, dict]]:
        words = ["doctor", "--address", cluster.address, "--storage", storage, "--json"]
        environment = {**cluster.environment, "OPENBLAS_CORETYPE": "Haswell"}
        done = two_hosts[0].run(make_argv(*words), timeout_s=120, env=environment)
        findings = {finding["topic"]: finding for finding in json.loads(done.stdout)["findings"]}
        return done.returncode, findings

    exit_code, findings = examine("/dev/shm/runs")  # every host has its own
    other = two_hosts[1].ip
    assert exit_code == 8
    assert findings["numerics"]["level"] == "problem"
    assert f"on {other}" in findings["numerics"]["fact"]
    assert findings["shared storage"]["level"] == "warning"
    assert f"on {other}" in findings["shared storage"]["fact"]
    assert findings["authentication"]["fact"].startswith("the cluster asks for a token")
    assert findings["cluster"]["fact"].startswith("2 nodes with 2 CPUs")
    _, findings = examine(str(tmp_path))
    assert findings["shared storage"]["level"] == "ok"
