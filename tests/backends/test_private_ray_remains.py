"""Drivers that are killed while their private Ray starts leave no folder, whatever its processes do last."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import environment_without
from waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

DRIVER_WITH_A_STRAGGLER = """
import os, signal, subprocess
from distbp.backends.ray import private_cluster
from distbp.backends.ray.cluster import RayCluster

def init(_temp_dir, **_):
    straggle = "sleep 1.5; mkdir -p $0/session_new; echo made"
    subprocess.Popen(["sh", "-c", straggle, _temp_dir], start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)

private_cluster.ray.init = init
RayCluster("local", num_cpus=1)
"""
DRIVER = "from distbp.backends.ray.cluster import RayCluster; RayCluster('local', num_cpus=1)"
MOMENTS_S = (0.6, 1.0, 1.4, 1.8, 2.2, 2.6)
REAPED = b"distbp-reaper"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, as Ray's sockets need it, for the files of drivers."""
    path = Path(tempfile.mkdtemp(prefix="r"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start_driver(program: str, folder: Path, **pipes: int) -> subprocess.Popen[bytes]:
    environment = {**environment_without("RAY_ADDRESS"), "TMPDIR": str(folder)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes)


def is_reaped(folder: Path) -> bool:
    """Whether no process waits any more for the end of a Ray with files in `folder`."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if REAPED in words and any(word.startswith(os.fsencode(folder)) for word in words):
            return False
    return True


@pytest.mark.slow
def test_a_folder_that_a_straggler_of_ray_makes_after_the_end_is_removed(folder):
    with start_driver(DRIVER_WITH_A_STRAGGLER, folder, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.read() == b"made\n"  # at its end, the straggler's too
    wait_until(lambda: is_reaped(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.ray
def test_drivers_killed_while_ray_starts_leave_no_folders(folder):
    for moment_s in MOMENTS_S:
        driver = start_driver(DRIVER, folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment_s)
        driver.kill()
        driver.wait()
    wait_until(lambda: is_reaped(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.ray
def test_a_raylet_that_was_paused_while_it_started_does_not_outlive_its_driver(folder):
    driver = start_driver(DRIVER, folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: find_raylets(folder))
    raylets = find_raylets(folder)
    for raylet in raylets:
        os.kill(raylet, signal.SIGSTOP)
    driver.terminate()
    driver.wait()
    wait_until(lambda: is_reaped(folder))
    assert find_raylets(folder) == []
    assert list(folder.iterdir()) == []


def find_raylets(folder: Path) -> list[int]:
    """The raylets, and what they start, that have files in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if b"raylet" in words and os.fsencode(folder) in words:
                found.append(int(process.name))
    return found
