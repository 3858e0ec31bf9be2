"""A source in blocks as workers use it: every example once an epoch, wherever the workers are."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.config import Data, Recipe
from distbp.data import prepare, prepare_in_memory
from distbp.protocol.planning import lane_order, shards
from distbp.protocol.supply import Course, Supply


def write_shards(folder: Path, sizes: list[int]) -> str:
    """Files of these sizes; the only feature of an example is its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    start = 0
    for number, size in enumerate(sizes):
        x = np.arange(start, start + size, dtype=np.float32)[:, None]
        np.savez(folder / f"{number:03}.npz", x=x, y=x[:, 0] % 2)
        start += size
    return str(folder)


def open_supply(source: str, held_out: float = 0.0) -> tuple[Supply, Supply | None]:
    data = prepare(Data(source=source, task="regression", validation=held_out, scaling="none"), 3)
    return data.train, data.validation


def make_course(recipe: Recipe, num_steps: int, memory_bytes: int) -> Course:
    return Course(recipe.global_batch_size, recipe.microbatch_size, 2, num_steps, memory_bytes, 0)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    workers=st.integers(1, 5),
    memory_bytes=st.sampled_from([0, 300, 1 << 20]),
    data=st.data(),
)
def test_each_example_is_taken_once_an_epoch_by_any_number_of_workers(tmp_path, sizes, workers, memory_bytes, data):
    count = sum(sizes)
    batch_size = data.draw(st.integers(1, count))
    recipe = Recipe(global_batch_size=batch_size, microbatch_size=data.draw(st.integers(1, batch_size)))
    supply, _ = open_supply(write_shards(tmp_path / "d", sizes))
    per_epoch = -(-count // batch_size)
    course = make_course(recipe, 2 * per_epoch, memory_bytes)
    there = [supply.along(course).open_training(9, np.float64) for _ in range(workers)]
    try:
        for epoch in range(2):
            seen: list[float] = []
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                order = lane_order(recipe, step, count)
                batch = []
                for training, shard in zip(there, shards(order.num_microbatches, workers), strict=True):
                    lanes = range(shard.start, shard.stop)
                    training.begin(step, order.epoch, slice(order.start, order.stop), lanes)
                    batch += [training.take(step, lane)[0] for lane in lanes]
                assert len(np.concatenate(batch)) == order.stop - order.start
                seen += np.concatenate(batch)[:, 0].tolist()
            assert sorted(seen) == list(range(count))
    finally:
        for training in there:
            training.close()


def test_a_supply_that_was_sent_away_gives_the_same_bits(tmp_path):
    supply, _ = open_supply(write_shards(tmp_path / "d", [20, 31, 9]))
    course = Course(16, 5, 1, 8, 1 << 20, 0)
    found = []
    for one in (supply.along(course), pickle.loads(pickle.dumps(supply.along(course)))):
        training = one.open_training(1, np.float32)
        training.begin(0, 0, slice(0, 16), range(4))
        found.append([training.take(step, lane)[0].tobytes() for step in range(4) for lane in range(4)])
        training.close()
    assert found[0] == found[1]


def test_both_parts_in_memory_are_all_examples_once(tmp_path):
    source = write_shards(tmp_path / "d", [20, 31, 9])
    data = Data(source=source, task="regression", validation=0.3, scaling="none")
    held = prepare_in_memory(data, 3)
    in_blocks = prepare(data, 3)
    assert (len(held.train), len(held.validation)) == (len(in_blocks.train), len(in_blocks.validation))
    values = np.concatenate([held.train.x[:, 0], held.validation.x[:, 0]])
    assert sorted(values) == list(range(60))
    assert np.array_equal(held.train.y[:, 0], held.train.x[:, 0] % 2)


@pytest.mark.parametrize(("batch_size", "microbatch_size"), [(16, 5), (60, 60), (7, 7), (13, 4)])
def test_the_smallest_microbatch_is_that_of_the_whole_run(tmp_path, batch_size, microbatch_size):
    supply, _ = open_supply(write_shards(tmp_path / "d", [20, 31, 9]))
    steps = -(-60 // batch_size)
    one = supply.along(Course(batch_size, microbatch_size, 1, steps, 1 << 20, 0))
    training = one.open_training(1, np.float32)
    lanes = range(-(-batch_size // microbatch_size))
    sizes = [len(training.take(step, lane)[0]) for step in range(steps) for lane in lanes]
    training.close()
    assert one.count_fewest() == min(size for size in sizes if size)
