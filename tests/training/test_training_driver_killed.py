"""A driver that is killed, and one that is started twice: real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbp import Placement, Recipe, train
from distbp.errors import CheckpointError
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow

EVERY = 20
DRIVE = """
import os, sys
from distbp import Placement, Recipe, train
recipe, storage, every = Recipe.model_validate_json(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def observe(progress):
    os.write(1, b"%d\\n" % progress.position.step)  # what is in the pipe outlives this process

train(recipe, Placement(storage=storage, checkpoint_every_steps=every), name="run", observe=observe)
"""


@contextmanager
def drive(recipe: Recipe, storage: Path) -> Iterator[subprocess.Popen]:
    """A driver in a process of its own, which is killed at the end."""
    command = [sys.executable, "-c", DRIVE, recipe.model_dump_json(), storage, EVERY]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen, step: int) -> list[int]:
    """Return the steps it has done, up to `step`."""
    steps: list[int] = []
    while not steps or steps[-1] < step:
        line = process.stdout.readline()
        assert line, "it ended before"
        steps.append(int(line))
    return steps


@pytest.mark.parametrize("kill_at", [7, 150])
def test_a_killed_driver_costs_at_most_checkpoint_every_steps(kill_at, make_recipe, train_toy, tmp_path):
    recipe = make_recipe(epochs=120)  # 360 steps
    with drive(recipe, tmp_path / "runs") as process:
        steps = read_until(process, kill_at)
        process.kill()
        process.wait()
        last = [*steps, *map(int, process.stdout.read().split())][-1]
    again = []
    resumed = train_toy(
        recipe=recipe, checkpoint_every_steps=EVERY, observe=lambda progress: again.append(progress.position.step)
    )
    assert kill_at <= last < 360
    assert last - (again[0] - 1) <= EVERY
    assert resumed.digest == train_toy("whole", recipe=recipe).digest


def test_a_second_driver_is_refused_and_does_not_disturb_the_first(make_recipe, tmp_path):
    recipe = make_recipe(epochs=3000)
    with drive(recipe, tmp_path / "runs") as process:
        read_until(process, 5)
        with pytest.raises(CheckpointError, match=rf"in use by process {process.pid} .*stop it \(kill {process.pid}\)"):
            train(recipe, Placement(storage=str(tmp_path / "runs")), name="run")
        first = read_until(process, 50)
        assert first == list(range(first[0], first[-1] + 1))


def test_sigterm_is_followed_by_a_checkpoint_of_the_last_step(make_recipe, tmp_path):
    with drive(make_recipe(epochs=3000), tmp_path / "runs") as process:
        steps = read_until(process, 50)
        process.send_signal(signal.SIGTERM)
        steps += map(int, process.stdout.read().split())
        process.wait(30)
    run = RunDirectory.open(str(tmp_path / "runs" / "run"))
    newest = max((tmp_path / "runs" / "run" / "checkpoints").iterdir())
    assert json.loads((newest / "manifest.json").read_text())["step"] == steps[-1] == run.read_steps()[-1].step
