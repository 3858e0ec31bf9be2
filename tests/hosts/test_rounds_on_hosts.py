"""Rounds over several hosts: the bytes of one process, and as much less on the links as a round has steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import make_argv

from distbp import Placement, Recipe, train

pytestmark = pytest.mark.ray

RECIPE = {"model": {"hidden": [600, 400]}, "global_batch_size": 50, "microbatch_size": 10, "epochs": 1}
ROUNDS = {"steps": 7, "replicas": 4}


def count_sent_bytes(host) -> int:
    """What the host's interface has sent."""
    done = host.run(["cat", "/proc/net/dev"])
    line = next(line for line in done.stdout.splitlines() if line.strip().startswith("eth0:"))
    return int(line.split(":")[1].split()[8])


def train_on(hosts, cluster, folder: Path, name: str, rounds: dict) -> tuple[dict, list[int]]:
    """The result of a run on all hosts, and what each of them sent until its end."""
    recipe = {**RECIPE, "rounds": rounds}
    placement = {"backend": "ray", "workers": 4, "servers": 4, "address": cluster.address, "storage": str(folder)}
    config = folder / f"{name}.yaml"
    config.write_text(json.dumps({"recipe": recipe, "placement": placement}))
    before = [count_sent_bytes(host) for host in hosts]
    argv = make_argv("train", str(config), "--name", name, "--json")
    done = hosts[0].run(argv, timeout_s=150, env=cluster.environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), [count_sent_bytes(host) - old for host, old in zip(hosts, before, strict=True)]


def test_rounds_give_the_bytes_of_one_process_and_send_less(cluster, four_hosts, tmp_path):
    """Of 29 steps, rounds of 7 commit 5 times. Hosts but the first, which has the data, send little besides."""
    on_hosts, sent = train_on(four_hosts, cluster, tmp_path, "rounds", ROUNDS)
    _, sent_every_step = train_on(four_hosts, cluster, tmp_path, "every-step", {})
    recipe = Recipe.model_validate({**RECIPE, "rounds": ROUNDS})
    local = train(recipe, Placement(workers=1, storage=str(tmp_path)), name="local")
    assert local.steps == 29
    assert on_hosts["digest"] == local.digest
    assert on_hosts["rounds"]["steps"] == 7
    share = sum(sent[1:]) / sum(sent_every_step[1:])
    assert 0.9 * 5 / 29 < share < 1.5 * 5 / 29
