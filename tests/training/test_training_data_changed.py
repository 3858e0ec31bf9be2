"""Data that change between two commands: whatever value is another, it is noticed wherever the data are used again."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from distbp import Recipe, load_run, train
from distbp.__main__ import main
from distbp.data import prepare
from distbp.errors import CheckpointError, DataError, TerminatedRunError
from distbp.lab.trial import load_json
from distbp.protocol import examples
from distbp.protocol.examples import Examples
from distbp.report.page import judge
from distbp.report.story import read_story

pytestmark = pytest.mark.slow

NUM_ROWS = 5000  # more than the sample that version 0.1.0 looked at


def write_table(path: Path, num_rows: int = NUM_ROWS, seed: int = 7) -> list[str]:
    """Write rows of three classes and return the file's lines."""
    rng = random.Random(seed)
    rows = (f"{i % 3 + rng.random():.4f},{rng.random():.4f},{'xyz'[i % 3]}" for i in range(num_rows))
    lines = ["a,b,label", *rows]
    path.write_text("\n".join(lines) + "\n")
    return lines


def rename(line: str) -> str:
    a, b, label = line.split(",")
    return f"{a},{b},{'yzx'['xyz'.index(label)]}"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    write_table(path)
    return path


@pytest.fixture
def recipe(table: Path) -> Recipe:
    return Recipe.model_validate(
        {"data": {"source": str(table)}, "model": {"hidden": [4]}, "global_batch_size": 600, "epochs": 2}
    )


def change_value(lines: list[str], row: int) -> None:
    a, b, label = lines[row].split(",")
    lines[row] = f"{a},{float(b) + 1:.4f},{label}"


def change_label(lines: list[str], row: int) -> None:
    lines[row] = rename(lines[row])


def swap(lines: list[str], row: int) -> None:
    lines[row], lines[row + 1] = lines[row + 1], lines[row]


def drop(lines: list[str], row: int) -> None:
    del lines[row]


@pytest.mark.parametrize("change", [change_value, change_label, swap, drop])
@pytest.mark.parametrize("part", ["training", "validation"])
def test_one_value_that_changed_is_noticed_in_either_part(table, recipe, train_toy, train_until, part, change):
    train_until(2, recipe=recipe)
    data = prepare(recipe.data, recipe.seed)
    rows = set((data.train if part == "training" else data.validation).rows.tolist())
    sampled = set(data.train.rows[:: max(1, len(data.train) // 1024)].tolist())  # what 0.1.0 looked at
    row = next(row for row in rows if row + 1 in rows and not {row, row + 1} & sampled)
    lines = table.read_text().splitlines()
    change(lines, row + 1)
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"data in '.*table\.csv' are not those that the run started with"):
        train_toy(recipe=recipe)


def test_most_labels_that_changed_are_noticed(table, recipe, train_toy, train_until):
    train_until(2, recipe=recipe)
    rows = prepare(recipe.data, recipe.seed).train.rows
    kept = set(rows[:: max(1, len(rows) // 1024)].tolist())
    lines = table.read_text().splitlines()
    for row in set(range(NUM_ROWS)) - kept:
        lines[row + 1] = rename(lines[row + 1])
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match="the training data in"):
        train_toy(recipe=recipe)


def test_other_names_of_the_classes_are_noticed(table, recipe, train_toy, train_until):
    train_until(2, recipe=recipe)
    table.write_text(table.read_text().replace(",z\n", ",zz\n"))
    with pytest.raises(CheckpointError, match="the training data in"):
        train_toy(recipe=recipe)


def test_a_finished_run_is_not_given_out_as_that_of_changed_data(table, recipe, train_toy):
    result = train_toy(recipe=recipe)
    assert train_toy(recipe=recipe) == result
    write_table(table, seed=8)
    with pytest.raises(CheckpointError, match="with another --name"):
        train_toy(recipe=recipe)


def test_validation_data_of_their_own_are_known_again_too(recipe, train_toy, train_until, tmp_path):
    held_out = tmp_path / "held-out.csv"
    write_table(held_out, 90, seed=1)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"validation": str(held_out)})})
    train_until(3, recipe=recipe)
    write_table(held_out, 90, seed=2)
    with pytest.raises(CheckpointError, match=r"the validation data in '.*held-out\.csv' are not those"):
        train_toy(recipe=recipe)
    with pytest.raises(DataError, match=r"the validation data in '.*held-out\.csv' are not those of"):
        load_run(str(tmp_path / "runs" / "run")).evaluate()


@pytest.mark.parametrize(
    "command",
    [["evaluate"], ["explain", "--data", "training"], ["explain", "--data", "validation"], ["evaluate", "--step", "0"]],
    ids=" ".join,
)
def test_held_out_examples_are_never_training_examples_of_a_file_that_was_sorted(
    table, recipe, train_toy, command, capfd
):
    run = train_toy(recipe=recipe).run
    assert main([command[0], run, *command[1:]]) == 0
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *sorted(lines[1:])]) + "\n")
    capfd.readouterr()
    assert main([command[0], run, *command[1:]]) in (3, 4)
    error = " ".join(capfd.readouterr().err.split())
    assert "restore" in error
    assert "table.csv' are not those that" in error


def test_changed_data_can_be_evaluated_by_name(table, recipe, train_toy, capfd):
    run = train_toy(recipe=recipe).run
    write_table(table, seed=8)
    assert main(["evaluate", run, "--data", str(table), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["num_examples"] == NUM_ROWS


def test_data_that_moved_are_the_same(table, recipe, train_toy, train_until, tmp_path):
    train_until(2, recipe=recipe)
    moved = table.rename(tmp_path / "moved.csv")
    there = recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": str(moved)})})
    split = train_toy(recipe=there)
    assert load_run(split.run).evaluate().loss == split.validation_loss
    assert split.digest == train_toy("whole", recipe=there).digest


def test_data_of_another_kind_of_file_with_the_same_values_are_the_same(tmp_path, train_toy, train_until, make_recipe):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 4)), rng.integers(0, 3, 300)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    train_until(2, recipe=make_recipe(data={"source": str(tmp_path / "a.npz")}))
    assert train_toy(recipe=make_recipe(data={"source": str(tmp_path / "x.npy")})).steps == 6


def test_a_fingerprint_does_not_depend_on_the_pieces_it_is_read_in(monkeypatch):
    rng = np.random.default_rng(0)
    part = Examples(rng.standard_normal((50, 3)), rng.integers(0, 3, 50), np.arange(1, 50, 2))
    found = {part.fingerprint()}
    for piece_bytes in (1, 24, 100, 1 << 30):
        monkeypatch.setattr(examples, "PIECE_BYTES", piece_bytes)
        found.add(part.fingerprint())
    assert len(found) == 1


def test_a_fingerprint_reads_a_mapped_file_in_pieces(tmp_path, monkeypatch):
    """Of an array that is mapped, no more than a piece is ever in the process's own memory."""
    np.save(tmp_path / "x.npy", np.zeros((1000, 16)))
    taken = []

    class Mapped(np.memmap):
        def __getitem__(self, rows):
            taken.append(np.size(rows))
            return np.asarray(self).__getitem__(rows)

    monkeypatch.setattr(examples, "PIECE_BYTES", 128 * 100)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r").view(Mapped)
    Examples(mapped, np.zeros(1000, np.int64), np.arange(1000)).fingerprint()
    assert max(taken) == 100
    assert sum(taken) == 1000


def test_a_study_of_changed_data_is_another_study(table, tmp_path, capfd):
    study = ["study", "order", "--runs", "2", "--out", str(tmp_path / "study"), "--set", f"data.source={table}"]
    study += ["--set", "epochs=1", "--set", "model.hidden=[2]", "--set", "global_batch_size=600"]
    assert main(study) == 0
    write_table(table, seed=8)
    load_json.cache_clear()  # as in another process
    assert main(study) == 2
    assert "of other data" in capfd.readouterr().err


def test_without_a_name_other_data_of_the_same_file_name_make_another_run(tmp_path, make_recipe, make_placement):
    """Of two folders with a table each, or of one table that changed: no run is resumed by the other."""
    runs = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        write_table(tmp_path / str(number) / "t.csv", 300, seed=number)
        recipe = make_recipe(data={"source": str(tmp_path / str(number) / "t.csv")})
        with pytest.raises(TerminatedRunError):
            train(recipe, make_placement(), observe=lambda _: signal.raise_signal(signal.SIGTERM))
        runs.append(train(recipe, make_placement()).run)
    assert len(set(runs)) == 2


def test_runs_of_other_data_were_not_expected_to_be_the_same(tmp_path, make_recipe, train_toy, capfd):
    for number in range(2):
        write_table(tmp_path / f"{number}.csv", 300, seed=number)
    runs = [train_toy(f"r{n}", recipe=make_recipe(data={"source": str(tmp_path / f"{n}.csv")})).run for n in range(2)]
    assert main(["verify", *runs]) == 9
    assert "their recipes or data differ too" in " ".join(capfd.readouterr().err.split())
    assert judge([read_story(run) for run in runs]).endswith("as 2 different recipes or data let expect.")
