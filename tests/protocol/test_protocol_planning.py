"""Which examples a step takes, and which microbatches each worker takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.config import Recipe
from distbp.nn.digests import BLOCK
from distbp.protocol.messages import Shard
from distbp.protocol.planning import num_microbatches, server_slices, shards, split, step_order, steps_per_epoch


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 500), num_workers=st.integers(1, 40))
def test_shards_are_consecutive_and_even(count, num_workers):
    found = shards(count, num_workers)
    assert [microbatch for shard in found for microbatch in range(shard.start, shard.stop)] == list(range(count))
    sizes = [shard.stop - shard.start for shard in found]
    assert len(sizes) == num_workers
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None, max_examples=50)
@given(start=st.integers(0, 50), size=st.integers(0, 50), parts=st.integers(1, 20))
def test_threads_split_a_shard_without_gaps_or_empty_parts(start, size, parts):
    found = list(split(Shard(start, start + size, 100), parts))
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(start, start + size))
    assert all(part.stop > part.start for part in found)
    assert len(found) == min(parts, size)


@settings(deadline=None, max_examples=50)
@given(num_examples=st.integers(1, 300), batch=st.integers(1, 300), epochs=st.integers(1, 3))
def test_steps_pass_over_the_examples_once_an_epoch(num_examples, batch, epochs):
    recipe = Recipe(global_batch_size=batch, microbatch_size=1, epochs=epochs)
    per_epoch = steps_per_epoch(recipe, num_examples)
    orders = [step_order(recipe, step, num_examples) for step in range(epochs * per_epoch)]
    for epoch in range(epochs):
        taken = [i for order in orders if order.epoch == epoch for i in range(order.start, order.stop)]
        assert taken == list(range(num_examples))


@settings(deadline=None, max_examples=50)
@given(num_parameters=st.integers(1, 10 * BLOCK), num_servers=st.integers(1, 20))
def test_server_slices_are_whole_blocks_and_together_the_vector(num_parameters, num_servers):
    slices = server_slices(num_parameters, num_servers)
    assert 1 <= len(slices) <= num_servers
    assert [0, *(stop for _, stop in slices)] == [*(start for start, _ in slices), num_parameters]
    assert all(start % BLOCK == 0 and start < stop for start, stop in slices)


@pytest.mark.parametrize(("size", "count"), [(1, 100), (7, 15), (50, 2), (99, 2), (100, 1)])
def test_a_batch_of_100_in_microbatches(size, count):
    assert num_microbatches(100, size) == count
