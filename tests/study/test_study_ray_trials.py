"""Trials as Ray tasks give the results of local processes."""

from __future__ import annotations

import json

import pytest

from distbp.__main__ import main

pytestmark = pytest.mark.ray


def test_trials_on_ray_are_those_of_local_processes(tmp_path):
    found = {}
    for backend in ("local", "ray"):
        argv = ["study", "order", "--runs", "2", "--set", "epochs=1", "--set", "model.hidden=[8]"]
        assert main([*argv, "--set", f"placement.backend={backend}", "--out", str(tmp_path / backend)]) == 0
        lines = (tmp_path / backend / "trials.jsonl").read_text().splitlines()
        results = [json.loads(line) for line in lines]
        found[backend] = {result["key"]: result["result"] for result in results}
    assert len(found["local"]) == 17 + 15  # orders, and windows of sorted blocks
    assert found["ray"] == found["local"]
