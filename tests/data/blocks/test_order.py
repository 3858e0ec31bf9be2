from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.data.blocks.order import BlockOrder, Lanes
from distbp.data.blocks.permutation import (
    LARGEST,
    BlockPurpose,
    KeyedPermutation,
    is_held_out,
    make_keys,
)

pytestmark = pytest.mark.slow

NUM_EXAMPLES, BATCH = 1 << 16, 64


def permutation(size: int, seed: int = 0) -> KeyedPermutation:
    return KeyedPermutation(size, make_keys(seed, BlockPurpose.WINDOW, 3))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000), st.integers(0, 2**63))
def test_every_number_is_permuted_exactly_once(size, seed):
    found = permutation(size, seed)(np.arange(size))
    assert np.array_equal(np.sort(found), np.arange(size))


@settings(max_examples=100, deadline=None)
@given(st.integers(LARGEST - 1000, LARGEST) | st.integers(2**33, LARGEST), st.data())
def test_numbers_up_to_2_to_the_48_stay_inside_and_apart(size, data):
    positions = np.unique(np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=200)), np.int64))
    found = permutation(size)(positions)
    assert len(np.unique(found)) == len(positions)
    assert found.min() >= 0
    assert found.max() < size


def test_what_stands_at_a_position_does_not_depend_on_what_else_is_asked():
    whole = permutation(30_011)(np.arange(30_011))
    assert np.array_equal(permutation(30_011)(np.arange(700, 900)), whole[700:900])


def test_a_size_out_of_range_is_refused():
    for size in (0, LARGEST + 1):
        with pytest.raises(ValueError, match="size="):
            permutation(size)


@pytest.mark.parametrize("size", [3, 4])
def test_small_sizes_take_every_permutation_equally_often(size):
    num_orders = {3: 6, 4: 24}[size]
    seen = [tuple(permutation(size, seed)(np.arange(size))) for seed in range(200 * num_orders)]
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    assert len(counts) == num_orders
    assert ((counts - 200) ** 2 / 200).sum() < num_orders + 5 * np.sqrt(2 * num_orders)  # chi-square, 5 sigma


class AddingRounds(KeyedPermutation):
    """The trap: a product carries upwards only, so the lowest bits never hear of the others."""

    def _round(self, half, key):
        return half * np.uint64(0x9E3779B97F4A7C15) + key


class FewRounds(KeyedPermutation):
    """The other trap: so few rounds that batches are more alike than chance makes them."""

    def __init__(self, size, keys):
        super().__init__(size, keys[:2])


def batch_sums(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, BATCH).sum(axis=1)


def find_departure(kind: type[KeyedPermutation], size: int = NUM_EXAMPLES, num_seeds: int = 8) -> float:
    """How far the variance over batches of several marks is from the hypergeometric's, at worst, in its own errors."""
    worst = 0.0
    for number, mark in enumerate((lambda i: i % 2, lambda i: i >= size // 2, lambda i: i < size // 10)):
        ratios = []
        for seed in range(num_seeds):
            shuffled = kind(size, make_keys(seed, BlockPurpose.WINDOW, number))(np.arange(size))
            marks = mark(shuffled).astype(float)
            share = marks.mean()
            ratios.append(batch_sums(marks).var() / (BATCH * share * (1 - share)))
        error = np.sqrt(2 / (size / BATCH) / num_seeds)
        worst = max(worst, abs(np.mean(ratios) - 1) / error)
    return worst


def test_parity_and_sorted_classes_spread_over_batches_as_chance_spreads_them():
    assert find_departure(KeyedPermutation) < 5


def test_the_test_of_spread_finds_bad_round_functions():
    assert find_departure(AddingRounds) > 20
    assert find_departure(FewRounds) > 8


def test_neighbouring_positions_and_seeds_have_nothing_in_common():
    size = 1 << 14
    one, two = (permutation(size, seed)(np.arange(size)).astype(float) for seed in (1, 2))
    error = 1 / np.sqrt(size)
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 * error
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 5 * error


sizes = st.integers(1, 2**40).flatmap(
    lambda total: st.tuples(st.just(total), st.integers(1, min(total, 10**6)), st.integers(1, 10**6))
)


@settings(max_examples=200, deadline=None)
@given(sizes)
def test_no_lane_is_longer_or_shorter_than_its_steps_take(numbers):
    lanes = Lanes(*numbers)
    for lane in {0, lanes.num_lanes // 2, lanes.num_lanes - 1}:
        start, stop = lanes.bounds(lane)
        assert (lanes.num_steps - 1) * lanes.width(lane) <= stop - start <= lanes.num_steps * lanes.width(lane)
    assert lanes.bounds(0)[0] == 0
    assert lanes.bounds(lanes.num_lanes - 1)[1] == lanes.num_examples


@st.composite
def orders(draw):
    rows = draw(st.lists(st.integers(0, 60), min_size=1, max_size=25).filter(any))
    batch = draw(st.integers(1, sum(rows)))
    lanes = Lanes(sum(rows), batch, draw(st.integers(1, batch + 3)))
    return BlockOrder(np.array(rows), lanes, draw(st.integers(1, 8)), draw(st.integers(0, 2**63))), rows


@settings(max_examples=100, deadline=None)
@given(orders(), st.integers(0, 3))
def test_each_example_is_taken_exactly_once_an_epoch(made, epoch):
    order, rows = made
    lanes = order.lanes
    seen = []
    for step in range(epoch * lanes.num_steps, (epoch + 1) * lanes.num_steps):
        batch = [order.select(step, lane) for lane in range(lanes.num_lanes)]
        num_taken = sum(len(selection.rows) for selection in batch)
        is_last = step == (epoch + 1) * lanes.num_steps - 1
        assert num_taken == (
            lanes.num_examples - (lanes.num_steps - 1) * lanes.batch_size if is_last else lanes.batch_size
        )
        seen += [pair for s in batch for pair in zip(s.blocks.tolist(), s.rows.tolist(), strict=True)]
    assert sorted(seen) == [(block, row) for block, count in enumerate(rows) for row in range(count)]


@settings(max_examples=60, deadline=None)
@given(orders(), st.data())
def test_needs_name_every_block_that_a_lane_takes_from_and_no_other(made, data):
    order, _ = made
    lanes = order.lanes
    lane, inner = data.draw(st.integers(0, lanes.num_lanes - 1)), data.draw(st.integers(0, lanes.num_steps - 1))
    step, end = lanes.num_steps + inner, 2 * lanes.num_steps
    needs = list(order.needs(lane, step))
    for later in range(step, end):
        blocks = {block for need in needs if need.first_step <= later < need.stop_step for block in need.blocks}
        assert set(order.select(later, lane).blocks.tolist()) <= blocks
    named = {block for need in needs for block in need.blocks}
    taken_all = {b for s in range(lanes.num_steps, end) for b in order.select(s, lane).blocks.tolist()}
    assert named <= taken_all
    assert all(one.first_step <= two.first_step for one, two in pairwise(needs))


def test_windows_longer_than_what_is_located_at_once_are_whole_too():
    order = BlockOrder(np.array([7_000, 1, 9_003]), Lanes(16_004, 1_000, 333), 2, 5)
    chosen = [order.select(step, lane) for step in range(order.lanes.num_steps) for lane in range(4)]
    pairs = {pair for s in chosen for pair in zip(s.blocks.tolist(), s.rows.tolist(), strict=True)}
    assert len(pairs) == 16_004 == sum(len(s.rows) for s in chosen)


def test_epochs_differ():
    order = BlockOrder(np.full(20, 50), Lanes(1000, 100, 25), 2, 0)
    first, second = (order.select(epoch * 10, 0) for epoch in (0, 1))
    assert first.blocks.tolist() != second.blocks.tolist()


def test_a_window_is_at_most_its_blocks_and_the_two_that_it_cuts():
    order = BlockOrder(np.full(64, 100), Lanes(6400, 64, 16), 3, 0)
    for lane in range(4):
        assert all(len(need.blocks) <= 3 + 1 for need in order.needs(lane, 0))


def find_departure_of_batches(window_blocks: int, num_seeds: int = 4) -> float:
    """How far the variance of the number of odd rows in a batch is from the binomial's, in its own errors."""
    ratios = []
    for seed in range(num_seeds):
        order = BlockOrder(np.full(32, 2048), Lanes(32 * 2048, BATCH, 16), window_blocks, seed)
        lanes, steps = order.lanes, range(order.lanes.num_steps)
        odd = [sum(int((order.select(step, m).rows % 2).sum()) for m in range(lanes.num_lanes)) for step in steps]
        ratios.append(np.var(odd) / (BATCH / 4))
    return abs(np.mean(ratios) - 1) / np.sqrt(2 / lanes.num_steps / num_seeds)


@pytest.mark.parametrize("window_blocks", [1, 2, 8])
def test_batches_of_lanes_and_windows_hold_as_many_odd_rows_as_chance_gives(window_blocks):
    assert find_departure_of_batches(window_blocks) < 5


def test_the_test_of_batches_finds_a_bad_round_function(monkeypatch):
    monkeypatch.setattr("distbp.data.blocks.order.KeyedPermutation", AddingRounds)
    assert find_departure_of_batches(2) > 20


def test_sorted_classes_in_blocks_mix_within_the_windows_of_all_lanes():
    num_blocks, rows = 60, 200
    order = BlockOrder(np.full(num_blocks, rows), Lanes(num_blocks * rows, 128, 8), 4, 0)
    counts = []
    for step in range(order.lanes.num_steps - 1):
        blocks = np.concatenate([order.select(step, lane).blocks for lane in range(order.lanes.num_lanes)])
        counts.append(np.bincount(blocks // 6, minlength=10))
    spread = np.var(counts, axis=0).mean()
    assert spread < 2.5 * 128 * 0.1 * 0.9  # one class a batch would give 128 * 128 * 0.09


def test_held_out_examples_are_the_asked_fraction_and_the_same_piece_by_piece():
    indices = np.arange(200_000)
    held = is_held_out(indices, 0.2, 7)
    assert abs(held.mean() - 0.2) < 5 * np.sqrt(0.16 / len(indices))
    assert np.array_equal(is_held_out(indices[5_000:6_000], 0.2, 7), held[5_000:6_000])
    assert (is_held_out(indices, 0.2, 8) != held).any()
    assert not is_held_out(indices, 0.0, 7).any()
    assert abs(np.corrcoef(held[1:], held[:-1])[0, 1]) < 5 / np.sqrt(len(indices))
