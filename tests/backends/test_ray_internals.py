"""A version of Ray without one of its private names loses a feature, never a run."""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import distbp
from distbp.backends.ray import internals as ray_internals

PRIVATE = {
    "ray_constants": "ray._private.ray_constants",
    "services": "ray._private.services",
    "stdout_deduplicator": "ray._private.ray_logging",
    "get_authentication_mode": "ray._raylet",
    "global_worker": "ray._private.worker",
    "GCS_STORAGE_MAX_SIZE": "ray._private.runtime_env.packaging",
}


@pytest.fixture
def without_private_names(monkeypatch):
    """The module as it is imported where Ray has none of them."""
    for module in PRIVATE.values():
        monkeypatch.setitem(sys.modules, module, None)
    with monkeypatch.context() as context:
        context.delattr("ray._private.ray_constants", raising=False)
        context.delattr("ray._private.services", raising=False)
        yield importlib.reload(ray_internals)
    monkeypatch.undo()
    importlib.reload(ray_internals)


def test_ray_of_today_has_every_private_name():
    assert all(getattr(ray_internals, name) is not None for name in PRIVATE)
    assert hasattr(ray_internals.ray_constants, "ENABLE_RAY_CLUSTER")
    assert issubclass(ray_internals.services.ConsolePopen, subprocess.Popen)


def test_ray_without_private_names_loses_features_and_no_run(without_private_names, monkeypatch, caplog):
    found = without_private_names
    assert found.services is None
    found.keep_stdout_clean(True)
    started: list = []
    with caplog.at_level(logging.WARNING, "distbp"), found.loopback_only(), found.own_sessions(started, {}):
        pass
    assert started == []
    assert [record.getMessage() for record in caplog.records] == [
        "this version of Ray may listen beyond this machine; distbp is tested with Ray 2.52 to 2.60"
    ]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert found.asks_for_token()
    assert found.list_draining_nodes(0.1) == {}
    assert found.MAX_PACKAGE_BYTES == 100 * 1024 * 1024


def test_private_names_of_ray_stand_in_one_file():
    package = Path(distbp.__file__).parent
    users = [path for path in package.rglob("*.py") if re.search(r"\bray\._|\bray import _", path.read_text())]
    assert users == [package / "backends" / "ray" / "internals.py"]
