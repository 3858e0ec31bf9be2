"""A stranger on this machine, who does not know the token, runs no code on a private Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

STRANGER = """
import os, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("ran as", ray.get(ray.remote(os.getpid).remote(), timeout=30))
"""
PATIENCE_S = 30


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a private Ray of this process."""
    import ray

    from distbp.backends.ray.cluster import RayCluster
    from distbp.backends.ray.internals import asks_for_token

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = RayCluster("local", num_cpus=2)
    try:
        if not asks_for_token():
            pytest.skip("this version of Ray asks for no token unless it is told to")
        yield ray.get_runtime_context().gcs_address
    finally:
        cluster.close()


def try_as_stranger(address: str, home: Path, token: str | None) -> str:
    """Return what a process prints that has no token but this one, and no home with one."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "DISTBP_"))}
    given = {} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = [sys.executable, "-c", STRANGER, address]
    with subprocess.Popen(
        command, env={**own, "HOME": str(home), **given}, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as stranger:
        try:
            told, _ = stranger.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:  # Ray itself tries for longer
            stranger.kill()
            told, _ = stranger.communicate()
    return told.decode(errors="replace")


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_a_stranger_without_the_token_runs_nothing_on_a_private_ray(address, tmp_path, token):
    assert "ran as" not in try_as_stranger(address, tmp_path, token)
