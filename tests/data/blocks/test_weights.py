"""Weights, weights of classes, scaled targets and sequences of classes in blocks: as arrays have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distbp.config import Data
from distbp.data import prepare
from distbp.errors import DataError
from distbp.protocol.supply import EVALUATION_CHUNK, Course, Supply, open_held_out, open_training

NUM_ROWS = 90
WORDS = np.array(["no", "maybe", "yes"])


def draw() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, NUM_ROWS))
    w = rng.integers(0, 5, NUM_ROWS) / 2
    return {"a": a, "b": b, "y": WORDS[rng.choice(3, NUM_ROWS, p=[0.2, 0.1, 0.7])], "p": 100 + 20 * a + b, "w": w}


def write(folder: Path, names: str, group: int = NUM_ROWS, **changed: np.ndarray) -> str:
    """One file of the columns that are named; `group` rows a block."""
    folder.mkdir(parents=True)
    columns = {**draw(), **changed}
    parquet.write_table(pa.table({name: columns[name] for name in names}), folder / "t.parquet", row_group_size=group)
    return str(folder)


def take_whole(examples: object, dtype: type = np.float32) -> tuple[np.ndarray, ...]:
    """All examples in one batch of one microbatch, which is their order of both kinds of supply."""
    training = open_training(along(examples, NUM_ROWS, NUM_ROWS), 1, NUM_ROWS, dtype)
    try:
        training.begin(0, 0, slice(0, len(examples)), range(1))
        return training.take(0, 0)
    finally:
        training.close()


def along(examples: object, batch_size: int, microbatch_size: int, steps: int = 1) -> object:
    return (
        examples.along(Course(batch_size, microbatch_size, 2, steps, 1 << 20, 0)) if is_supply(examples) else examples
    )


def is_supply(examples: object) -> bool:
    return hasattr(examples, "along")


def take_all(supply: Supply, workers: int) -> list[tuple[np.ndarray, ...]]:
    """Each microbatch of an epoch in batches of 16, as so many workers take them."""
    steps, lanes = -(-len(supply) // 16), range(4)
    there = [along(supply, 16, 4, steps).open_training(1, np.float32) for _ in range(workers)]
    try:
        found = []
        for step in range(steps):
            for lane in lanes:
                training = there[lane % workers]
                training.begin(step, 0, slice(0, 0), range(lane, lane + 1))
                found.append(training.take(step, lane))
        return found
    finally:
        for training in there:
            training.close()


def sort_batch(batch: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    order = np.argsort(batch[0][:, 0], kind="stable")
    return [part[order] for part in batch]


def assert_same(one: tuple[np.ndarray, ...], two: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(sort_batch(one), sort_batch(two), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "y", "weight": "w"},
        {"target": "y", "class_weights": "balanced"},
        {"target": "y", "weight": "w", "class_weights": {"no": 3.0, "yes": 0.5}},
        {"target": "p", "task": "regression", "weight": "w", "target_scaling": "standard"},
        {"target": "p", "task": "regression", "target_scaling": "standard"},
    ],
)
def test_one_block_taken_whole_is_what_the_file_read_whole_is(tmp_path, settings):
    names = "ab" + settings["target"] + ("w" if "weight" in settings else "")
    folder = write(tmp_path / "d", names)
    values = {"validation": 0.0, "scaling": "standard", "columns": None, **settings}
    in_blocks = prepare(Data(source=folder, **values), 3)
    whole = prepare(Data(source=f"{folder}/t.parquet", **{**values, "weight": None}), 3) if "w" not in names else None
    if whole is not None:
        assert_same(take_whole(in_blocks.train), take_whole(whole.train))
        return
    table = prepare(Data(source=f"{folder}/t.parquet", **{**values, "columns": {}}), 3)
    assert_same(take_whole(in_blocks.train), take_whole(table.train))
    assert in_blocks.schema.weight == table.schema.weight == "w"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_weights_and_targets_stay_with_their_examples_whoever_takes_them(tmp_path, workers):
    folder = write(tmp_path / "d", "abpw", 20)
    data = Data(
        source=folder, target="p", task="regression", weight="w", target_scaling="standard", scaling="none",
        validation=0.2,
    )  # fmt: skip
    prepared = prepare(data, 3)
    found = take_all(prepared.train, workers)
    assert all(np.array_equal(*pair) for one, two in zip(found, take_all(prepared.train, 1), strict=True)
               for pair in zip(one, two, strict=True))  # fmt: skip
    x, y, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    known = draw()
    rows = [int(np.flatnonzero(known["a"].astype(np.float32) == value)[0]) for value in x[:, 0]]
    trained = known["p"][rows]
    assert np.array_equal(weights, known["w"][rows])
    np.testing.assert_allclose(y[:, 0], (trained - trained.mean()) / trained.std(), rtol=1e-4, atol=1e-5)


def test_weights_of_classes_count_the_training_rows_and_weigh_in_training_only(tmp_path):
    data = Data(source=write(tmp_path / "d", "aby", 20), class_weights="balanced", validation=0.3, target="y")
    prepared = prepare(data, 3)
    _, y, weights = (np.concatenate(parts) for parts in zip(*take_all(prepared.train, 2), strict=True))
    counts = np.bincount(y)
    assert np.array_equal(weights, (len(y) / (3 * counts))[y])
    held_out = open_held_out(along(prepared.validation, 16, 4), np.float32)
    held_out.begin(range(1))
    assert len(held_out.take(0)) == 2
    held_out.close()
    assert len(prepared.validation) < EVALUATION_CHUNK


def test_held_out_rows_keep_their_weights_and_examples_in_memory_are_the_same(tmp_path):
    prepared = prepare(Data(source=write(tmp_path / "d", "abyw", 20), weight="w", target="y", validation=0.3), 3)
    held_out = open_held_out(along(prepared.validation, 16, 4), np.float32)
    held_out.begin(range(1))
    batch = held_out.take(0)
    held_out.close()
    assert np.array_equal(batch[2], prepared.validation.hold().weights)
    assert len(batch[2]) == len(prepared.validation)


def test_other_data_are_read_with_their_weights_if_they_have_some(tmp_path):
    with_weights, without = write(tmp_path / "d", "abyw", 20), write(tmp_path / "e", "aby", 20)
    for other, count in ((write(tmp_path / "f", "abyw", 30), 3), (without, 2)):
        prepared = prepare(Data(source=with_weights, weight="w", target="y", validation=other), 3)
        held_out = open_held_out(along(prepared.validation, 16, 4), np.float32)
        held_out.begin(range(1))
        assert len(held_out.take(0)) == count
        held_out.close()


@pytest.mark.parametrize(
    ("names", "w", "words"),
    [
        ("abyw", np.where(np.arange(NUM_ROWS) == 57, -1.0, 1.0), "'w' of '.*t.parquet' is -1 in data row 58"),
        ("abyw", np.zeros(NUM_ROWS), "'w' of '.*' is 0 in every row, so there is nothing to learn from"),
        ("abyw", WORDS[np.arange(NUM_ROWS) % 3], "'w' of '.*t.parquet' holds no numbers"),
        ("aby", np.ones(NUM_ROWS), "data.weight=w names no column"),
    ],
)  # fmt: skip
def test_bad_weights_are_one_sentence_with_their_row(tmp_path, names, w, words):
    with pytest.raises(DataError, match=words):
        prepare(Data(source=write(tmp_path / "d", names, 20, w=w), weight="w", target="y", validation=0.0), 3)


def test_a_weight_is_no_column_of_arrays_and_an_unknown_class_is_named(tmp_path):
    np.savez(tmp_path / "1.npz", x=np.ones((4, 2)), y=np.arange(4) % 2)
    with pytest.raises(DataError, match=r"data\.weight=w names a column, and .* has none"):
        prepare(Data(source=f"{tmp_path}/*.npz", weight="w"), 3)
    with pytest.raises(DataError, match=r"data\.class_weights names 'often'; the classes are"):
        prepare(Data(source=write(tmp_path / "d", "aby"), class_weights={"often": 2.0}, target="y"), 3)


def write_sequences(folder: Path, sizes: tuple[int, ...], shift: int = 0) -> str:
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number, size in enumerate(sizes):
        y = rng.integers(0, 6, (size, 3)) + shift
        y[:, 0] = np.where(rng.random(size) < 0.3, -100, y[:, 0])
        np.savez(folder / f"{number}.npz", x=rng.integers(0, 9, (size, 3)), y=y)
    return str(folder)


def test_sequences_of_classes_are_those_of_the_arrays(tmp_path):
    folder = write_sequences(tmp_path / "d", (NUM_ROWS,))
    values = {"task": "classification", "scaling": "none", "validation": 0.0}
    in_blocks, whole = (prepare(Data(source=source, **values), 3) for source in (folder, f"{folder}/0.npz"))
    assert in_blocks.schema == whole.schema
    assert (in_blocks.schema.target_shape, in_blocks.schema.num_outputs) == ((3,), 6)
    one, two = take_whole(in_blocks.train), take_whole(whole.train)
    assert sorted(np.hstack(one).tolist()) == sorted(np.hstack(two).tolist())
    assert [part.dtype for part in one] == [part.dtype for part in two]


def test_sequences_in_several_blocks_and_a_last_step_without_examples(tmp_path):
    folder = write_sequences(tmp_path / "d", (10, 20, 3))
    prepared = prepare(Data(source=folder, task="classification", scaling="none", validation=0.0), 3)
    parts = take_all(prepared.train, 2)
    assert {part[1].shape[1:] for part in parts} == {(3,)}
    assert sum(len(part[1]) for part in parts) == 33


def test_sequences_that_do_not_fit_are_named(tmp_path):
    np.savez(tmp_path / "1.npz", x=np.ones((4, 2)), y=np.array([[0, -7]] * 4))
    with pytest.raises(DataError, match=r"y\[0, 1\] of .* is -7; the classes of a sequence"):
        prepare(Data(source=f"{tmp_path}/*.npz", task="classification"), 3)
    folder, more = write_sequences(tmp_path / "d", (10, 20)), write_sequences(tmp_path / "e", (10,), 3)
    values = {"task": "classification", "scaling": "none"}
    with pytest.raises(DataError, match="has the label 6; the run was trained on the classes"):
        prepare(Data(source=folder, validation=more, **values), 3)
    with pytest.raises(DataError, match="class_weights is for targets that are one class each"):
        prepare(Data(source=folder, class_weights="balanced", **values), 3)


def test_a_change_of_weights_is_another_fingerprint(tmp_path):
    one, two = write(tmp_path / "d", "abyw", 20), write(tmp_path / "e", "abyw", 20, w=np.ones(NUM_ROWS))
    first, second = (prepare(Data(source=source, weight="w", target="y"), 3).train for source in (one, two))
    assert first.fingerprint() != second.fingerprint()
