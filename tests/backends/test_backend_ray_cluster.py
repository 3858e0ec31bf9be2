"""A private Ray cluster is reachable from this machine only, and nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import wait_until

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


@contextmanager
def start_training() -> Iterator[tuple[subprocess.Popen, Path]]:
    """Yield a process that has trained 3 steps on a private cluster and waits for a line of input, and its TMPDIR.

    The directory's name is short: Ray puts sockets below it.
    """
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as temp_dir:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, f"{temp_dir}/runs"],
            env={**environment, "TMPDIR": temp_dir},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "step\n"
            yield process, Path(temp_dir)
        finally:
            process.kill()
            process.communicate(timeout=30)


@dataclass(frozen=True)
class Traces:
    """What a run leaves in the system while it lasts."""

    pids: set[int]
    shared_memory: set[Path]
    ray_dirs: list[Path]
    addresses: set[str]

    @classmethod
    def of(cls, process: subprocess.Popen, temp_dir: Path) -> Traces:
        pids = descendants(process.pid)
        addresses = listening_addresses(pids | {process.pid})
        return cls(pids, shared_memory_files(pids), list(temp_dir.glob("distbp-ray-*")), addresses)

    def files(self) -> list[Path]:
        """Return the files and directories that are there."""
        return [path for path in [*self.shared_memory, *self.ray_dirs] if path.exists()]


@pytest.fixture(scope="module")
def traces() -> Traces:
    """The traces of a run, which has ended by now."""
    with start_training() as (process, temp_dir):
        found = Traces.of(process, temp_dir)
        process.communicate("go on\n", timeout=60)
        assert process.returncode == 0
        return found


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
    inodes = {str(link.readlink()) for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*") if link.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    is_listening = "0A"
    return {row[1].partition(":")[0] for row in rows if row[3] == is_listening and f"socket:[{row[9]}]" in inodes}


def shared_memory_files(pids: set[int]) -> set[Path]:
    """The files in /dev/shm that these processes have mapped, as far as they still have names."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/dev/shm/" in line}
    return {Path(path) for path in paths if not path.endswith("(deleted)")}


def test_no_process_of_a_private_cluster_outlives_its_run(traces):
    assert len(traces.pids) >= 4  # Ray's head, its node manager and two actors
    wait_until(lambda: not any(is_alive(pid) for pid in traces.pids))


def test_no_file_of_a_private_cluster_outlives_its_run(traces):
    assert len(traces.ray_dirs) == 1
    assert traces.files() == []


def test_nothing_of_a_private_cluster_listens_beyond_loopback(traces):
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert traces.addresses
    assert traces.addresses <= loopback


def test_a_private_cluster_ends_when_its_driver_is_killed():
    with start_training() as (process, temp_dir):
        traces = Traces.of(process, temp_dir)
        assert len(traces.pids) >= 4
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        wait_until(lambda: not any(is_alive(pid) for pid in traces.pids))
        wait_until(lambda: traces.files() == [])


def test_a_bystander_that_reads_the_logs_of_a_private_cluster_lives_on():
    with start_training() as (process, temp_dir):
        log = next(temp_dir.glob("distbp-ray-*/r/session_latest/logs/raylet.out"))
        with subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL) as bystander:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=30)
            wait_until(lambda: not list(temp_dir.glob("distbp-ray-*")))
            assert bystander.poll() is None
            bystander.kill()


def test_only_its_user_can_enter_the_folder_of_a_private_cluster():
    with start_training() as (_, temp_dir):
        (folder,) = temp_dir.glob("distbp-ray-*")
        assert folder.stat().st_mode & 0o777 == 0o700


def test_importing_distbp_and_training_locally_does_not_import_ray(tmp_path):
    script = TRAIN.replace('"ray"', '"local"').replace("sys.stdin.readline()", "pass")
    script += "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'ray'))"
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"
