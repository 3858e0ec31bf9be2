"""TensorBoard's own reader finds a run's curves in its event files."""

from __future__ import annotations

import signal
import warnings

import pytest

from distbp import Placement, Recipe, train
from distbp.errors import ConfigError, TerminatedRunError
from distbp.run import RunDirectory
from distbp.service.tensorboard import TensorBoardFiles

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 3})


def read_scalars(folder) -> dict[str, list[tuple[int, float]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of TensorBoard's own imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture
def write_often(monkeypatch):
    monkeypatch.setattr("distbp.service.tensorboard.INTERVAL_S", 0.0)


@pytest.mark.usefixtures("write_often")
def test_every_step_and_every_epoch_is_there_with_the_numbers_of_the_run(tmp_path):
    placement = Placement(storage=str(tmp_path / "runs"))
    result = train(RECIPE, placement, name="a", observe=TensorBoardFiles(tmp_path / "board"))
    found = read_scalars(tmp_path / "board" / "a")
    records = RunDirectory.open(result.run).read_steps()
    assert [step for step, _ in found["loss/training"]] == [record.step for record in records]
    assert [value for _, value in found["loss/training"]] == pytest.approx([record.loss for record in records])
    assert found["accuracy/validation"][-1] == (result.steps, pytest.approx(result.validation_accuracy))
    assert [step for step, _ in found["accuracy/validation"]] == [23, 46, 69]
    assert set(found) >= {"loss/validation", "step_seconds/compute", "speed/examples_per_second", "run/goodput"}


@pytest.mark.usefixtures("write_often")
def test_resumed_run_goes_on_in_the_same_curves(tmp_path):
    def stop(progress):
        board(progress)
        if progress.position.step == 30:
            signal.raise_signal(signal.SIGTERM)

    board = TensorBoardFiles(tmp_path / "board")
    placement = Placement(storage=str(tmp_path / "runs"))
    with pytest.raises(TerminatedRunError):
        train(RECIPE, placement, name="a", observe=stop)
    board.close()
    train(RECIPE, placement, name="a", observe=TensorBoardFiles(tmp_path / "board"))
    found = read_scalars(tmp_path / "board" / "a")
    assert [step for step, _ in found["loss/training"]] == list(range(1, 70))


def test_means_are_over_the_steps_since_the_last_point(tmp_path):
    placement = Placement(storage=str(tmp_path / "runs"))
    result = train(RECIPE, placement, name="a", observe=TensorBoardFiles(tmp_path / "board"))
    records = RunDirectory.open(result.run).read_steps()
    points, start = read_scalars(tmp_path / "board" / "a")["loss/training"], 0
    for step, value in points:
        losses = [record.loss for record in records if start < record.step <= step]
        assert value == pytest.approx(sum(losses) / len(losses))
        start = step
    assert start == result.steps


def test_without_the_library_it_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"pip install 'distbp\[tensorboard\]'"):
        TensorBoardFiles(tmp_path)
