"""train() on data in blocks on Ray: the bytes of one process, while each worker reads what it needs itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from block_files import write_blocks

from distbp import Recipe, train, verify
from distbp.backends import make_backend
from distbp.backends.ray.tasks import RayTasks
from distbp.data.blocks.look import Question, look_at
from distbp.errors import DataError
from distbp.run import CheckpointStore, RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("blocks") / "d")


@pytest.fixture
def recipe(make_recipe, folder: Path) -> Recipe:
    return make_recipe(data={"source": str(folder), "window_blocks": 2}, global_batch_size=60, epochs=3)


@pytest.fixture
def train_blocks(recipe, make_placement) -> Callable[..., object]:
    def run(name: str, observe=None, connect=make_backend, **placement: object):
        return train(recipe, make_placement(**placement), name=name, observe=observe, connect=connect)

    return run


def test_ray_gives_the_bytes_of_one_process(train_blocks):
    local = train_blocks("local", workers=1)
    placements = [
        {"workers": 1},
        {"workers": 2, "memory_for_data": "2kB"},
        {"workers": 3, "threads_per_worker": 2},
    ]
    for number, placement in enumerate(placements):
        on_ray = train_blocks(f"ray-{number}", backend="ray", **placement)
        assert verify(local.run, on_ray.run).first_difference is None
        assert on_ray.digest == local.digest
        assert (on_ray.train_loss, on_ray.validation_loss) == (local.train_loss, local.validation_loss)


def test_a_run_that_moves_between_backends_in_the_middle_of_epochs_ends_like_an_undisturbed_one(train_blocks, stop_at):
    placements = [{"backend": "ray", "workers": 3}, {"workers": 2}, {"backend": "ray", "workers": 2}]
    for step, placement in zip((2, 5, 8), placements, strict=True):
        with pytest.raises(Exception, match="resumes"):
            train_blocks("run", observe=stop_at(step), checkpoint_every_steps=1, **placement)
    assert train_blocks("run", backend="ray", workers=1).digest == train_blocks("whole").digest


def test_a_worker_killed_in_the_middle_of_an_epoch_changes_nothing(train_blocks):
    backends = []

    def connect(placement):
        backends.append(make_backend(placement))
        return backends[-1]

    killed = []

    def kill(progress) -> None:
        if progress.position.step >= 3 and not killed:
            victim = next(process for process in backends[-1].processes if not process.is_server)
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    result = train_blocks("killed", kill, connect, backend="ray", workers=3)
    assert killed
    assert result.recoveries >= 1
    assert result.digest == train_blocks("whole").digest


def test_a_file_that_changes_ends_a_run_on_ray_that_goes_on_with_the_old_file(make_recipe, make_placement, tmp_path):
    source = write_blocks(tmp_path / "d")
    recipe = make_recipe(data={"source": str(source), "window_blocks": 1}, global_batch_size=60, epochs=10)
    placement = make_placement(backend="ray", workers=2, memory_for_data="1kB", checkpoint_every_steps=1000)
    kept = {path: path.read_bytes() for path in source.iterdir()}

    def grow(progress) -> None:
        if progress.position.step == 3:
            for path, content in kept.items():
                path.write_bytes(content + b"more")

    with pytest.raises(DataError, match=r"has changed since the first look.*; the same command resumes"):
        train(recipe, placement, name="run", observe=grow)
    assert CheckpointStore(RunDirectory.open(str(tmp_path / "runs" / "run")), 1).list_steps()[-1] >= 3
    for path, content in kept.items():
        path.write_bytes(content)
    assert train(recipe, placement, name="run").digest == train(recipe, make_placement(), name="whole").digest


def test_a_first_look_by_tasks_is_that_of_threads(folder, tmp_path):
    question = Question(str(folder), held_out=0.2)
    with RayTasks(None, 2) as tasks:
        assert look_at(question, mapper=tasks.map) == look_at(question)
        path = write_blocks(tmp_path / "bad") / "part-1.parquet"
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(DataError, match="truncated") as caught:
            look_at(Question(str(path.parent)), mapper=tasks.map)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ray.data sets what Ray itself calls deprecated
def test_a_ray_dataset_is_written_as_blocks_and_trained_on(make_recipe, make_placement, tmp_path):
    ray_data = pytest.importorskip("ray.data", reason="Ray's datasets need pandas", exc_type=ImportError)
    rng = np.random.default_rng(0)
    rows = [{"a": float(a), "b": float(b), "y": int(a + b > 0)} for a, b in rng.standard_normal((300, 2))]
    recipe = make_recipe(data={"source": str(tmp_path / "ready")}, global_batch_size=60)
    dataset = ray_data.from_items(rows, override_num_blocks=4)
    on_ray = train(recipe, make_placement(backend="ray", workers=2), name="ray", data=dataset)
    assert on_ray.digest == train(recipe, make_placement(workers=1), name="local").digest
