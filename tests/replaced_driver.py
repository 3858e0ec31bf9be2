"""A driver that is stopped (SIGSTOP), replaced by another one, and continued: what does it still write?

To whoever looks at the run's lock the first driver is on another machine, whose silence counts as death.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import wait_until

from distbp import Placement, Recipe, Result, train, verify
from distbp.run.storage.folder import Folder
from distbp.run.storage.opening import open_folder
from distbp.training import Progress

NAME = "run"
RECIPE = {"model": {"hidden": [8]}, "epochs": 8}
NUM_STEPS = 184
PLACEMENT = {"checkpoint_every_steps": 8, "keep_checkpoints": 2}
ENDED_AS_REPLACED = 4
MOMENTS = ("append", "publish", "write", "remove", "")
"""Before which call to storage the driver stops; '': at any moment, stopped from outside."""
PROGRAM = """
import json, os, signal, socket, sys, time
socket.gethostname = lambda: "elsewhere"
from distbp import Placement, Recipe, train
from distbp.errors import DistbpError
from distbp.run.storage.local_folder import LocalFolder
from distbp.run.storage.remote_folder import RemoteFolder

recipe, placement, method = json.loads(sys.argv[1])
is_armed = False

def stop_before(kind):
    original = getattr(kind, method)
    def stopping(self, name, *arguments, **options):
        global is_armed
        if is_armed and name != "lock.json":
            is_armed = False
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.5)  # another thread may take the signal: until it has stopped this one too
        return original(self, name, *arguments, **options)
    setattr(kind, method, stopping)

def observe(progress):
    global is_armed
    time.sleep(0.02)
    if progress.position.step == 30:
        is_armed = True
        print("armed", flush=True)

if method:
    stop_before(LocalFolder), stop_before(RemoteFolder)
try:
    train(Recipe.model_validate(recipe), Placement.model_validate(placement), name="run", observe=observe)
except DistbpError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@contextmanager
def stopped_driver(storage: str, moment: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a driver that has trained 30 steps or more of the run in `storage` and is stopped at a `moment`."""
    arguments = json.dumps([RECIPE, {**PLACEMENT, "storage": storage}, moment])
    with subprocess.Popen([sys.executable, "-c", PROGRAM, arguments], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "armed\n"
            if not moment:
                os.kill(driver.pid, signal.SIGSTOP)
            wait_until(lambda: is_stopped(driver))
            yield driver
        finally:
            driver.kill()


def is_stopped(driver: subprocess.Popen[str]) -> bool:
    assert driver.poll() is None, "it ended before it could be stopped"
    return Path(f"/proc/{driver.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def expect_to_end_as_replaced(driver: subprocess.Popen[str]) -> None:
    """Let it go on, and wait for its end."""
    os.kill(driver.pid, signal.SIGCONT)
    told, _ = driver.communicate(timeout=100)
    assert driver.returncode == ENDED_AS_REPLACED, told
    assert "was taken over by another driver" in told


def replace(storage: str, monkeypatch: pytest.MonkeyPatch, observe: Callable[[Progress], None] | None = None) -> Result:
    """Train the run to its end with a driver that takes a second of silence for death."""
    monkeypatch.setattr("distbp.run.owner.STALE_AFTER_S", 1.0)
    placement = Placement.model_validate({**PLACEMENT, "storage": storage})
    return train(Recipe.model_validate(RECIPE), placement, name=NAME, resume="must", observe=observe)


def read_all(folder: Folder) -> dict[str, bytes | None]:
    """The content of every file below `folder`, by URL."""
    found: dict[str, bytes | None] = {}
    for name in folder.names():
        is_folder = folder.size_bytes(name) is None
        found |= read_all(folder.child(name)) if is_folder else {f"{folder.url}/{name}": folder.read(name)}
    return found


def check_driver_that_comes_back_late(storage: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A driver that is continued after its run has been finished by another changes nothing."""
    with stopped_driver(storage, moment) as driver:
        result = replace(storage, monkeypatch)
        before = read_all(open_folder(storage))
        expect_to_end_as_replaced(driver)
    assert read_all(open_folder(storage)) == before
    return result


def check_driver_that_comes_back_meanwhile(storage: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A driver that is continued while another goes on with its run does not disturb it."""
    with stopped_driver(storage, moment) as driver:

        def observe(progress: Progress) -> None:
            if progress.position.step == NUM_STEPS // 2:
                expect_to_end_as_replaced(driver)

        result = replace(storage, monkeypatch, observe)
    log = (open_folder(result.run).read("steps.jsonl") or b"").splitlines()
    assert [json.loads(line)["step"] for line in log] == [*range(1, NUM_STEPS + 1)]
    return result


def expect_undisturbed(result: Result, tmp_path: Path) -> None:
    whole = train(Recipe.model_validate(RECIPE), Placement(storage=str(tmp_path / "whole")), name=NAME)
    assert result.steps == whole.steps == NUM_STEPS
    assert verify(result.run, whole.run).same
