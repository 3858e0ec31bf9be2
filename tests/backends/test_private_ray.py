"""A private Ray leaves the rest of its process, and whatever that starts, alone. Ray itself is not started here."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from distbp.backends.ray import private_cluster
from distbp.backends.ray.cluster import RayCluster
from distbp.errors import ClusterError

pytestmark = pytest.mark.slow


def test_start_of_ray_that_is_given_up_ends_itself_with_its_files(monkeypatch):
    before, go_on, is_ended, folders = dict(os.environ), threading.Event(), threading.Event(), []

    def init(_temp_dir, **_):
        folders.append(Path(_temp_dir))
        go_on.wait()
        folders[0].mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(private_cluster.ray, "init", init)
    monkeypatch.setattr(private_cluster.ray, "shutdown", is_ended.set)
    monkeypatch.setattr(private_cluster, "START_TIMEOUT_S", 0.1)
    monkeypatch.setattr(private_cluster, "GRACE_S", 0.1)
    with pytest.raises(ClusterError, match="it took more than"):
        RayCluster("local", num_cpus=1)
    assert dict(os.environ) == before
    keeper = next(thread for thread in threading.enumerate() if thread.name == "distbp-ray")
    go_on.set()
    keeper.join(60)
    assert is_ended.is_set()
    assert not folders[0].parent.exists()


def test_processes_started_elsewhere_while_ray_starts_do_not_end_with_it(monkeypatch):
    bystanders = []

    def init(**_):
        bystanders.append(subprocess.Popen(["sleep", "600"]))

    monkeypatch.setattr(private_cluster.ray, "init", init)
    monkeypatch.setattr(private_cluster.ray, "shutdown", lambda: None)
    RayCluster("local", num_cpus=1).close()
    with bystanders[0] as bystander:
        assert bystander.poll() is None
        bystander.kill()
