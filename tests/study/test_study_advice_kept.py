"""A probe of `distbp advise` that was stopped keeps what it measured, and the same command goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distbp.__main__ import main

pytestmark = pytest.mark.slow

WAIT_S = 90.0
COMMAND = ["advise", "--seconds", "8", "--local-only", "--json", "--set", "model.hidden=[8]", "--set", "epochs=2"]


def read_kept(folder: Path) -> dict[str, dict]:
    path = folder / "trials.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return {(found := json.loads(line))["key"]: found for line in lines if line.endswith("\n")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict], int, str]:
    """The folder of a probe that got SIGTERM after two of its measurements, what it holds, exit code and messages."""
    folder = tmp_path_factory.mktemp("advise") / "kept"
    process = subprocess.Popen(
        [sys.executable, "-m", "distbp", *COMMAND, "--keep", str(folder)], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + WAIT_S
        while len(read_kept(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)
        _, messages = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    return folder, read_kept(folder), process.returncode, messages


def test_a_stopped_probe_says_what_it_keeps(kept):
    folder, found, code, messages = kept
    assert code == 143
    assert list(found)[:2] == ["pilot", "comparison"]
    assert f"Stopped with {len(found)} results kept in '{folder}'; the same command goes on" in messages
    assert "Traceback" not in messages


def test_the_same_command_measures_only_the_rest(kept, capfd):
    folder, before, *_ = kept
    assert main([*COMMAND, "--keep", str(folder)]) == 0
    told, after = json.loads(capfd.readouterr().out), read_kept(folder)
    assert {key: after[key] for key in before} == before
    assert sum(key.startswith("times/") for key in after) > sum(key.startswith("times/") for key in before)
    content = (folder / "trials.jsonl").read_bytes()
    assert main([*COMMAND, "--keep", str(folder)]) == 0
    assert (folder / "trials.jsonl").read_bytes() == content
    again = json.loads(capfd.readouterr().out)
    assert again["noise_scale"] == told["noise_scale"]
    assert again["measured"] == told["measured"]


def test_another_probe_does_not_go_on_there(kept, capfd):
    folder, *_ = kept
    content = (folder / "trials.jsonl").read_bytes()
    assert main([*COMMAND, "--keep", str(folder), "--set", "seed=7"]) == 2
    told = capfd.readouterr().err
    assert "holds a study with other settings" in told
    assert "choose another folder" in told
    assert (folder / "trials.jsonl").read_bytes() == content
