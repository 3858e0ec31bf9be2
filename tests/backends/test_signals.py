"""Signals at every moment of a run on a private Ray, and a private Ray that breaks down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import make_argv
from waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

MARK = b"DISTBP_PRIVATE_RAY="
END_TIMEOUT_S = 50  # below the 60 s after which Ray by itself ends a driver that lost it


def start(folder: Path, *argv: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start a command of distbp on a private Ray, in a process group of its own."""
    words = [*prefix, *make_argv(*argv), "--set", "epochs=100000", "--set", "model.hidden=[8]"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.Popen(
        words, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )


def start_training(folder: Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start a training run and return once it has done steps."""
    process = start(folder, "train", "--backend", "ray", "--name", "r", prefix=prefix)
    log = folder / "runs" / "r" / "steps.jsonl"
    try:
        wait_until(lambda: process.poll() is not None or (log.exists() and log.stat().st_size > 0))
        assert process.poll() is None, process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def finish(process: subprocess.Popen) -> str:
    """Return the last line of what a process told people; killed if it does not end in time."""
    try:
        return (process.communicate(timeout=END_TIMEOUT_S)[1].splitlines() or [""])[-1]
    finally:
        process.kill()
        process.wait()


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
def test_sigterm_while_ray_starts_ends_a_run_with_143(tmp_path, delay_s):
    process = start(tmp_path, "train", "--backend", "ray", "--name", "r")
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
        ["study", "batch-size", "--set", "placement.backend=ray"],
    ],
)
def test_sigterm_while_ray_starts_ends_other_commands_with_143(tmp_path, command):
    process = start(tmp_path, *command)
    wait_until(lambda: process.poll() is not None or "gcs_server" in ray_processes(process.pid))
    process.terminate()
    last = finish(process)
    assert process.returncode == 143
    assert last.startswith("Stopped"), last


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_whole_process_group_ends_a_run_after_a_checkpoint(tmp_path, number):
    process = start_training(tmp_path)
    os.killpg(process.pid, number)
    last = finish(process)
    assert process.returncode == 143
    assert "checkpointed; the same command resumes" in last
    assert list((tmp_path / "runs" / "r" / "checkpoints").glob("step-*/manifest.json"))


def test_sighup_that_is_ignored_stays_ignored(tmp_path):
    process = start_training(tmp_path, prefix=("nohup",))
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGINT)
    finish(process)
    assert process.returncode == 130


def test_repeated_ctrl_c_ends_with_130_and_without_a_traceback(tmp_path):
    process = start_training(tmp_path)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)  # a person's pace; all three may also come too late, which is no harm
    assert "Traceback" not in process.communicate(timeout=END_TIMEOUT_S)[1]
    assert process.returncode == 130


@pytest.mark.parametrize("program", ["gcs_server", "raylet"])
def test_private_ray_that_breaks_down_ends_a_run_with_one_sentence(tmp_path, program):
    process = start_training(tmp_path)
    pid = ray_processes(process.pid)[program]
    os.kill(pid, signal.SIGKILL)
    last = finish(process)
    assert process.returncode == 7
    assert f"Ray's {program} (pid {pid}) has ended" in last
    wait_until(lambda: not marked_processes(process.pid))


def marked_processes(driver: int) -> list[str]:
    """The processes of a private Ray whose working folder is the driver's; those are all that it started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if MARK in (process / "environ").read_bytes() and (process / "stat").read_text().split()[3] == str(driver):
                found.append(process.name)
        except OSError:
            continue
    return found
