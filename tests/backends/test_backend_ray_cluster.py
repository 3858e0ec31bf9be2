"""A private Ray cluster is reachable from this machine only, and nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

TRAIN = """
import sys
from distbp import Placement, Recipe, train

def observe(progress):
    if progress.position.step == 3:
        print("step", flush=True)
        sys.stdin.readline()

recipe = Recipe(data={"source": "digits"}, model={"hidden": [8]}, global_batch_size=500, epochs=2)
placement = Placement(backend="ray", workers=2, storage=sys.argv[1], checkpoint_every_steps=1)
print(train(recipe, placement, name="run", observe=observe).digest, flush=True)
"""


@pytest.fixture
def temp_dir() -> Iterator[Path]:
    """A directory for temporary files with a name short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def training(temp_dir: Path, tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A process that trains on a private cluster and waits, after step 3, for a line of input."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(tmp_path / "runs")],
        env={**environment, "TMPDIR": str(temp_dir)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def read_stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; [] if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    return read_stat(pid)[:1] not in ([], ["Z"])


def descendants(pid: int) -> set[int]:
    parents = {int(path.name): read_stat(int(path.name))[1:2] for path in Path("/proc").glob("[0-9]*")}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent and int(parent[0]) in found} - found:
        found |= more
    return found - {pid}


def listening_addresses(pids: set[int]) -> set[str]:
    """The hexadecimal addresses on which these processes accept TCP connections."""
    inodes = {os.readlink(link) for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*") if link.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    is_listening = "0A"
    return {row[1].partition(":")[0] for row in rows if row[3] == is_listening and f"socket:[{row[9]}]" in inodes}


def shared_memory_files(pids: set[int]) -> set[Path]:
    """The files in /dev/shm that these processes have mapped, as far as they still have names."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/dev/shm/" in line}
    return {Path(path) for path in paths if not path.endswith("(deleted)")}


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.05)


def test_a_private_cluster_ends_with_its_run(training, temp_dir):
    assert training.stdout.readline() == "step\n"
    pids = descendants(training.pid)
    shared = shared_memory_files(pids)
    assert len(pids) >= 4  # Ray's head, its node manager and two actors
    assert [path.name.startswith("distbp-ray-") for path in temp_dir.iterdir()].count(True) == 1
    digest, _ = training.communicate("go on\n", timeout=60)
    assert training.returncode == 0, digest
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert list(temp_dir.glob("distbp-ray-*")) == []
    assert [path for path in shared if path.exists()] == []


def test_a_private_cluster_ends_when_its_driver_is_killed(training, temp_dir):
    assert training.stdout.readline() == "step\n"
    pids = descendants(training.pid)
    shared = shared_memory_files(pids)
    training.send_signal(signal.SIGKILL)
    training.wait(timeout=30)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    wait_until(lambda: list(temp_dir.glob("distbp-ray-*")) == [])
    assert [path for path in shared if path.exists()] == []


def test_nothing_of_a_private_cluster_listens_beyond_loopback(training):
    assert training.stdout.readline() == "step\n"
    addresses = listening_addresses(descendants(training.pid) | {training.pid})
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert addresses
    assert addresses <= loopback


def test_importing_distbp_and_training_locally_does_not_import_ray(tmp_path):
    script = TRAIN.replace('"ray"', '"local"').replace("sys.stdin.readline()", "pass")
    script += "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'ray'))"
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"
