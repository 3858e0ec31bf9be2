"""verify --deep: in which microbatch and tensor do two runs part?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from distbp import verify
from distbp.__main__ import main
from distbp.config import Recipe
from distbp.data import prepare
from distbp.errors import CheckpointError, DataError
from distbp.nn.streams import epoch_order
from distbp.verification.deep import Parting, find_parting

pytestmark = pytest.mark.slow


def look(run_a: str, run_b: str) -> Parting:
    step = verify(run_a, run_b).first_difference
    assert step is not None
    return find_parting(run_a, run_b, step)


def change_checksum(run: str, step: int) -> None:
    """Let the log of a run tell of another outcome of one step."""
    path = Path(run) / "steps.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[step - 1]["checksum"] = "0" * 16
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def place_of(row: int, recipe: Recipe) -> tuple[int, int]:
    """The step, from 1, and the microbatch, from 0, that a training example is in during the first epoch."""
    order = epoch_order(recipe.seed, 0, len(prepare(recipe.data, recipe.seed).train))
    batch, _ = divmod(list(order).index(row), recipe.global_batch_size)
    start = batch * recipe.global_batch_size
    members = np.sort(order[start : start + recipe.global_batch_size])
    return batch + 1, list(members).index(row) // recipe.microbatch_size


@pytest.mark.parametrize("row", [5, 100, 239])
def test_a_label_that_was_changed_is_found_in_its_microbatch(train_run, write_data, make_recipe, row):
    """Without shuffling into a validation part, training example number `row` is row `row` of the file."""
    validation = str(write_data("held-out"))
    a = train_run("a", data={"source": str(write_data("a")), "validation": validation})
    b = train_run("b", data={"source": str(write_data("b", relabelled=(row,))), "validation": validation})
    recipe = make_recipe(data={"source": str(write_data("a")), "validation": validation})
    step, microbatch = place_of(row, recipe)
    found = look(a.run, b.run)
    assert (found.kind, found.step, found.microbatch) == ("microbatch", step, microbatch)
    assert found.num_microbatches == 15
    assert "2.bias" in found.tensors
    assert (found.matches_a, found.matches_b) == (True, True)


def test_runs_that_part_in_the_update_agree_in_all_microbatches(train_run):
    """The learning rates are equal in the first epoch, steps 1 to 3, and differ from step 4 on."""
    decaying = {"kind": "step", "decay_epochs": 1, "decay_factor": 0.5}
    found = look(train_run("a").run, train_run("b", schedule=decaying).run)
    assert (found.kind, found.step, found.microbatch, found.num_microbatches) == ("update", 4, None, 15)
    assert found.tensors[0] == "0.weight"
    assert (found.matches_a, found.matches_b) == (True, True)


def test_dropout_that_differs_is_found_in_the_first_microbatch(train_run):
    found = look(train_run("a").run, train_run("b", model={"hidden": [7, 5], "dropout": 0.2}).run)
    assert (found.kind, found.step, found.microbatch) == ("microbatch", 1, 0)


@pytest.mark.parametrize("change", [{"seed": 1}, {"model": {"hidden": [7, 5], "dropout": 0.1, "init": "glorot"}}])
def test_runs_that_start_from_other_parameters_are_told_so(train_run, change):
    found = look(train_run("a").run, train_run("b", **change).run)
    assert (found.kind, found.step, found.tensors[0]) == ("state", 1, "0.weight")


def test_networks_of_other_shapes_are_not_compared_further(train_run):
    found = look(train_run("a").run, train_run("b", model={"hidden": [7, 6], "dropout": 0.1}).run)
    assert (found.kind, found.tensors) == ("network", ("1.weight", "1.bias", "2.weight"))


def test_batches_that_are_cut_otherwise_have_no_microbatch_in_common(train_run):
    assert look(train_run("a").run, train_run("b", microbatch_size=8).run).kind == "cut"


@pytest.mark.parametrize(("step", "tensors"), [(5, ()), (6, ())])
def test_a_record_of_something_else_than_the_recipe_is_told_from_the_one_that_is_right(train_run, step, tensors):
    a, b = train_run("a").run, train_run("b").run
    change_checksum(b, step)
    found = look(a, b)
    assert (found.kind, found.step, found.tensors) == ("record", step, tensors)
    assert (found.matches_a, found.matches_b) == (True, False)


def test_a_step_before_that_comes_out_otherwise_here_is_told(train_run):
    a, b = train_run("a").run, train_run("b").run
    for run in (a, b):
        change_checksum(run, 4)
    change_checksum(b, 5)
    with pytest.raises(CheckpointError, match=r"step 4 of '.*runs/a', which both runs have alike, comes out otherwise"):
        find_parting(a, b, 5)


def test_without_checkpoints_before_it_is_computed_from_the_beginning(train_run):
    decaying = {"kind": "step", "decay_epochs": 2, "decay_factor": 0.5}
    a, b = train_run("a").run, train_run("b", schedule=decaying).run
    for run in (a, b):
        for step in (3, 6):
            shutil.rmtree(Path(run) / "checkpoints" / f"step-{step:08d}")
    found = look(a, b)
    assert (found.kind, found.step) == ("update", 7)


def test_data_that_are_missing_or_changed_are_told(train_run, write_data):
    a = train_run("a").run
    b = train_run("b", data={"source": str(write_data("other", relabelled=(5,)))}).run
    write_data("other")
    with pytest.raises(CheckpointError, match=r"the training data in '.*other\.npz' are not those"):
        look(a, b)
    write_data("other").unlink()
    with pytest.raises(DataError, match=r"other\.npz"):
        look(a, b)


def test_the_command_names_microbatch_and_tensor(train_run, capfd):
    runs = train_run("a").run, train_run("b", model={"hidden": [7, 5], "dropout": 0.2}).run
    assert main(["verify", "--deep", *runs]) == 9
    told = capfd.readouterr().err
    assert "they part in microbatch 0 of the 15 of step 1, counted from 0, first in tensor '0.weight'" in told
    assert main(["verify", "--deep", "--json", *runs]) == 9
    document = json.loads(capfd.readouterr().out)
    assert document["parting"]["microbatch"] == 0
    assert main(["verify", "--deep", runs[0], runs[0]]) == 0


def test_the_command_says_what_is_missing_and_that_the_runs_differ(train_run, write_data, capfd):
    a, path = train_run("a").run, write_data("other", relabelled=(5,))
    b = train_run("b", data={"source": str(path)}).run
    path.unlink()
    assert main(["verify", "--deep", a, b]) == 9
    told = capfd.readouterr().err
    assert "end with different bytes" in told
    assert "cannot be said: " in told
    assert str(path) in told
