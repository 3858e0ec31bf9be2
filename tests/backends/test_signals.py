"""Signals at every moment of a run on a private Ray, and a private Ray that breaks down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import hear_signals, make_argv
from waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

MARK = b"DISTBP_PRIVATE_RAY="
KNOWN_GOAL = {
    "goal": 0.3,
    "fit": {"curve": {"min_steps": 50.0}, "critical_batch_size": 40.0, "residual": 0.1, "num_points": 6},
}
END_TIMEOUT_S = 50  # below the 60 s after which Ray by itself ends a driver that lost it


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a command of distbp on a private Ray, in a process group of its own; ended with the test."""
    started = []

    def call(*argv: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
        words = [*prefix, *make_argv(*argv), "--set", "epochs=100000", "--set", "model.hidden=[8]"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            words, env=environment, cwd=tmp_path, text=True, process_group=0, preexec_fn=hear_signals, **pipes
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start_training(start, tmp_path) -> Callable[..., subprocess.Popen]:
    """Starts a training run and returns once it has done steps."""

    def call(prefix: tuple[str, ...] = ()) -> subprocess.Popen:
        process = start("train", "--backend", "ray", "--name", "r", prefix=prefix)
        log = tmp_path / "runs" / "r" / "steps.jsonl"
        wait_until(lambda: process.poll() is not None or (log.exists() and log.stat().st_size > 0))
        assert process.poll() is None, process.communicate()
        return process

    return call


def finish(process: subprocess.Popen) -> str:
    """Return the last line of what a process told people."""
    return (process.communicate(timeout=END_TIMEOUT_S)[1].splitlines() or [""])[-1]


def ray_processes(driver: int) -> dict[str, int]:
    """The processes of Ray that a driver started, by the names of their programs."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            program = (process / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if int(parent) == driver:
            found[Path(program).name] = int(process.name)
    return found


@pytest.mark.parametrize("delay_s", [0.1, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0])
def test_sigterm_while_ray_starts_ends_a_run_with_143(start, tmp_path, delay_s):
    process = start("train", "--backend", "ray", "--name", "r")
    time.sleep(delay_s)
    process.terminate()
    last = finish(process)
    assert process.returncode in (143, -signal.SIGTERM)  # the second before Python has come to distbp
    assert "defect" not in last
    if (tmp_path / "runs" / "r" / "config.yaml").exists():
        assert process.returncode == 143
        assert last.startswith("Stopped"), last


@pytest.mark.parametrize(
    "command",
    [
        ["drill"],
        ["doctor", "--set", "placement.backend=ray"],
        ["advise"],
        ["study", "batch-size", "--set", "placement.backend=ray"],
        ["study", "workers", "--workers", "1,2", "--batch-size-study", "."],
    ],
)
def test_sigterm_while_ray_starts_ends_other_commands_with_143(start, tmp_path, command):
    (tmp_path / "summary.json").write_text(json.dumps({"goals": [KNOWN_GOAL]}))  # of the batch sizes' study
    process = start(*command)
    wait_until(lambda: process.poll() is not None or "gcs_server" in ray_processes(process.pid))
    process.terminate()
    last = finish(process)
    assert process.returncode == 143
    assert last.startswith("Stopped"), last


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_whole_process_group_ends_a_run_after_a_checkpoint(start_training, tmp_path, number):
    process = start_training()
    os.killpg(process.pid, number)
    last = finish(process)
    assert process.returncode == 143
    assert "checkpointed; the same command resumes" in last
    assert list((tmp_path / "runs" / "r" / "checkpoints").glob("step-*/manifest.json"))


def test_sighup_that_is_ignored_stays_ignored(start_training):
    process = start_training(prefix=("nohup",))
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGINT)
    finish(process)
    assert process.returncode == 130


def test_repeated_ctrl_c_ends_with_130_and_without_a_traceback(start_training):
    process = start_training()
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)  # a person's pace; all three may also come too late, which is no harm
    assert "Traceback" not in process.communicate(timeout=END_TIMEOUT_S)[1]
    assert process.returncode == 130


@pytest.mark.parametrize("program", ["gcs_server", "raylet"])
def test_private_ray_that_breaks_down_ends_a_run_with_one_sentence(start_training, program):
    process = start_training()
    pid = ray_processes(process.pid)[program]
    mark = find_mark(pid)
    os.kill(pid, signal.SIGKILL)
    last = finish(process)
    assert process.returncode == 7
    assert f"Ray's {program} (pid {pid}) has ended" in last
    expect_nothing_left(mark)


def test_nothing_of_ray_outlives_a_driver_that_is_killed(start_training):
    process = start_training()
    mark = find_mark(ray_processes(process.pid)["raylet"])
    process.kill()
    expect_nothing_left(mark)


WAITS_FOR_ROOM = """
import os, signal, threading
from distbp.backends.ray.cluster import RayCluster
from distbp.backends.ray.placement import Reservation
from distbp.backends.ray.private_cluster import _running
from distbp.errors import ClusterError
cluster = RayCluster("local", num_cpus=1)
Reservation(1).hold(1)
raylet = next(process for process in _running[0]._processes if "raylet" in str(process.args[0]))
threading.Timer(1.5, os.kill, (raylet.pid, signal.SIGKILL)).start()
try:
    Reservation(1).hold(1)
except ClusterError as error:
    print(error)
cluster.close()
"""


def test_private_ray_that_breaks_down_while_a_run_waits_for_room_ends_the_wait():
    done = subprocess.run([sys.executable, "-c", WAITS_FOR_ROOM], capture_output=True, text=True, timeout=100)
    assert "Ray's raylet (pid " in done.stdout, done
    assert done.returncode == 0


def find_mark(pid: int) -> bytes:
    """The environment's entry that all processes of one private Ray have; it ends with the folder of their files."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(entry for entry in entries if entry.startswith(MARK))


def expect_nothing_left(mark: bytes) -> None:
    folder = mark.removeprefix(MARK).decode()
    wait_until(lambda: not any(is_of(process, mark, folder) for process in Path("/proc").glob("[0-9]*")))
    wait_until(lambda: not Path(folder).exists())


def is_of(process: Path, mark: bytes, folder: str) -> bool:
    """Whether a process is of this Ray: it carries the mark, unless its name has overwritten it, or uses its files."""
    try:
        files = [str(link.readlink()) for link in (process / "fd").iterdir()]
        return mark in (process / "environ").read_bytes().split(b"\0") or any(f.startswith(folder) for f in files)
    except OSError:
        return False
