"""The cluster of these tests is gone after them, also when they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

HOLD = """
from ray_head import start_head
with start_head() as service:
    print(service.temp_dir, flush=True)
    input()
"""


def find_processes(folder: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{folder}/".encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_nothing_is_left_when_the_process_of_the_tests_is_killed():
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    argv = [sys.executable, "-c", HOLD]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([paths, os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        folder = process.stdout.readline().strip()
        assert find_processes(folder)
        process.kill()
    wait_until(lambda: not find_processes(folder) and not Path(folder).exists())
