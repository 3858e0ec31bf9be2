"""More epochs for a run: it goes on from where it ended, with the bytes of one that was meant to be so long."""

from __future__ import annotations

from pathlib import Path

import pytest

from distbp import load_run, verify
from distbp.errors import CheckpointError, NumericsError, StorageError
from distbp.run.storage.local_folder import LocalFolder

pytestmark = pytest.mark.slow


def started(run: str) -> list[int]:
    return [e["step"] for e in load_run(run).run.read_events() if e["kind"] == "started"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"schedule": {"kind": "step", "decay_epochs": 1, "decay_factor": 0.5, "warmup_steps": 4}},
        {"early_stopping": {"patience": 50}},
    ],
    ids=["constant", "step", "patient"],
)
def test_a_run_that_gets_more_epochs_ends_like_one_that_had_them_from_the_start(fields, train_toy, make_recipe):
    train_toy("grown", recipe=make_recipe(**fields), workers=3)
    grown = train_toy("grown", recipe=make_recipe(**fields, epochs=5), keep_checkpoints=1)
    whole = train_toy("whole", recipe=make_recipe(**fields, epochs=5))
    assert verify(grown.run, whole.run).same
    for field in ("digest", "train_loss", "validation_loss", "steps", "epochs", "final_step"):
        assert getattr(grown, field) == getattr(whole, field), field
    assert started(grown.run) == [0, 6]
    assert load_run(grown.run).config.recipe.epochs == 5


def test_a_run_grows_more_than_once_and_when_it_was_stopped(train_toy, train_until, make_recipe):
    train_until(2, name="grown")
    train_until(8, name="grown", recipe=make_recipe(epochs=3))
    grown = train_toy("grown", recipe=make_recipe(epochs=7))
    assert started(grown.run) == [0, 2, 8]
    assert grown.digest == train_toy("whole", recipe=make_recipe(epochs=7)).digest


def test_a_run_does_not_shrink(train_toy, make_recipe):
    train_toy()
    with pytest.raises(CheckpointError, match=r"recipe\.epochs was 2 and is now 1"):
        train_toy(recipe=make_recipe(epochs=1))


def test_a_cosine_schedule_has_its_end(train_toy, make_recipe):
    train_toy(recipe=make_recipe(schedule={"kind": "cosine"}))
    with pytest.raises(CheckpointError, match="from 2 to 3 epochs: its cosine schedule ends with epoch 2"):
        train_toy(recipe=make_recipe(schedule={"kind": "cosine"}, epochs=3))


def test_a_run_that_stopped_early_has_its_end(train_toy, make_recipe):
    hasty = {"patience": 1, "min_delta": 1e6}
    train_toy(recipe=make_recipe(early_stopping=hasty, epochs=4))
    with pytest.raises(CheckpointError, match="from 4 to 5 epochs: early stopping ended it after 2"):
        train_toy(recipe=make_recipe(early_stopping=hasty, epochs=5))


def test_a_finished_run_stays_finished_where_more_epochs_are_refused(train_toy, make_recipe, tmp_path):
    result = train_toy()
    numerics = tmp_path / "runs" / "run" / "numerics.json"
    then = numerics.read_text()
    numerics.write_text('{"numpy": "1.2.3", "probe": "another"}')
    with pytest.raises(NumericsError):
        train_toy(recipe=make_recipe(epochs=3))
    numerics.write_text(then)
    assert train_toy() == result


def test_other_changes_with_more_epochs_are_another_recipe(train_toy, make_recipe):
    train_toy()
    with pytest.raises(CheckpointError, match=r"recipe\.seed was 0 and is now 1"):
        train_toy(recipe=make_recipe(epochs=3, seed=1))


@pytest.mark.parametrize("name", ["config.yaml", "steps.jsonl", "lock.json"])
def test_a_run_killed_while_it_gets_more_epochs_can_be_resumed_either_way(
    name, train_toy, make_recipe, monkeypatch, tmp_path
):
    """Storage ends at the first write of each file; then the shorter command, or the longer one, is given again."""
    monkeypatch.chdir(tmp_path)  # where a state is rescued to
    for epochs in (2, 4):
        run = f"grown-{epochs}"
        train_toy(run)
        with monkeypatch.context() as patch:
            for method in ("write", "append", "write_new"):
                patch.setattr(LocalFolder, method, refuse(name, getattr(LocalFolder, method)))
            with pytest.raises(StorageError):
                train_toy(run, recipe=make_recipe(epochs=4))
        content = (tmp_path / "runs" / run / "config.yaml").read_text()
        if epochs == 2 and "epochs: 4" in content:
            continue  # it has grown already, and no run shrinks
        again = train_toy(run, recipe=make_recipe(epochs=epochs))
        assert again.digest == train_toy(f"whole-{epochs}-{name[:5]}", recipe=make_recipe(epochs=epochs)).digest


def refuse(name: str, method):
    def call(self, file_name: str, *args, **kwargs):
        if Path(file_name).name == name:
            raise StorageError(f"cannot write '{name}'")
        return method(self, file_name, *args, **kwargs)

    return call
