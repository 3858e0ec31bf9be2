"""The reduction tree: whoever adds which leaves, the same additions happen in the same order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.nn import tree

MAX_LEAVES = 12


def contiguous_partitions(num_leaves: int) -> Iterator[list[tuple[int, int]]]:
    """Every way of cutting 0 .. num_leaves - 1 into consecutive non-empty shards."""
    for cuts in itertools.product([False, True], repeat=num_leaves - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), num_leaves]
        yield list(itertools.pairwise(bounds))


def draw_leaves(num_leaves: int) -> list[np.ndarray]:
    """Float32 vectors whose sum depends on the order: signs and six orders of magnitude are mixed."""
    rng = np.random.default_rng(num_leaves)
    scale = 10.0 ** rng.integers(-3, 4, (num_leaves, 16))
    return list((rng.standard_normal((num_leaves, 16)) * scale).astype(np.float32))


def distributed_sum(leaves: list, shards: list[tuple[int, int]], add=np.add):
    """What workers and server do: whole subtrees inside each shard first, then the rest of the tree."""
    num_leaves = len(leaves)
    nodes = tuple(node for shard in shards for node in tree.cover(*shard, num_leaves))
    values = [tree.reduce_leaves(*node, leaves.__getitem__, add) for node in nodes]
    return tree.merge(values, tree.merge_order(nodes, (0, num_leaves)), add)


def naive_sum(leaves: list[np.ndarray], shards: list[tuple[int, int]]) -> np.ndarray:
    """Each worker sums its shard, the server adds the sums."""
    return sum(sum(leaves[start:stop]) for start, stop in shards)


def all_cases() -> Iterator[tuple[list[np.ndarray], list[tuple[int, int]]]]:
    for num_leaves in range(1, MAX_LEAVES + 1):
        leaves = draw_leaves(num_leaves)
        for shards in contiguous_partitions(num_leaves):
            yield leaves, shards


def test_every_contiguous_partition_gives_the_same_bytes():
    num_partitions = 0
    for leaves, shards in all_cases():
        whole = tree.reduce_leaves(0, len(leaves), leaves.__getitem__, np.add)
        assert distributed_sum(leaves, shards).tobytes() == whole.tobytes(), shards
        num_partitions += 1
    assert num_partitions == 4095


def test_each_worker_sums_and_the_server_adds_would_not_give_the_same_bytes():
    num_different = sum(
        naive_sum(leaves, shards).tobytes() != naive_sum(leaves, [(0, len(leaves))]).tobytes()
        for leaves, shards in all_cases()
    )
    assert num_different > 1000


@st.composite
def partitions(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    num_leaves = draw(st.integers(1, 300))
    cuts = draw(st.sets(st.integers(1, num_leaves - 1), max_size=20)) if num_leaves > 1 else set()
    return num_leaves, list(itertools.pairwise([0, *sorted(cuts), num_leaves]))


@settings(deadline=None, max_examples=50)
@given(partitions())
def test_every_partition_makes_the_same_additions(partition):
    num_leaves, shards = partition
    leaves = [str(i) for i in range(num_leaves)]

    def add(a: str, b: str) -> str:
        return f"({a}+{b})"

    assert distributed_sum(leaves, shards, add) == tree.reduce_leaves(0, num_leaves, leaves.__getitem__, add)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int, int]:
    num_leaves = draw(st.integers(1, 1000))
    start = draw(st.integers(0, num_leaves))
    return start, draw(st.integers(start, num_leaves)), num_leaves


@settings(deadline=None, max_examples=50)
@given(ranges())
def test_cover_is_the_range_in_order(case):
    start, stop, num_leaves = case
    covered = [leaf for node in tree.cover(start, stop, num_leaves) for leaf in range(*node)]
    assert covered == list(range(start, stop))


@settings(deadline=None, max_examples=50)
@given(ranges())
def test_cover_is_small(case):
    start, stop, num_leaves = case
    assert len(tree.cover(start, stop, num_leaves)) <= 2 * num_leaves.bit_length()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 1000))
def test_reduction_holds_few_results_at_once(num_leaves):
    alive = most = 0

    def leaf(_: int) -> int:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return 1

    def add(a: int, b: int) -> int:
        nonlocal alive
        alive -= 1
        return a + b

    assert tree.reduce_leaves(0, num_leaves, leaf, add) == num_leaves
    assert most <= 1 + (num_leaves - 1).bit_length()


def test_shards_of_powers_of_two_are_one_partial_each():
    assert [tree.cover(i * 4, i * 4 + 4, 16) for i in range(4)] == [((0, 4),), ((4, 8),), ((8, 12),), ((12, 16),)]


def test_left_child_is_the_largest_power_of_two_below():
    assert [tree.middle(0, n) for n in range(2, 10)] == [1, 2, 2, 4, 4, 4, 4, 8]


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        pytest.param(((0, 2), (3, 4)), "microbatch 2 is missing", id="missing"),
        pytest.param(((0, 2),), "microbatch 2 is missing", id="missing at the end"),
        pytest.param(((2, 4),), "microbatch 0 is missing", id="missing at the beginning"),
        pytest.param(((0, 4), (2, 4)), "overlap or lie outside", id="overlapping"),
        pytest.param(((0, 2), (0, 2), (2, 4)), "overlap or lie outside", id="twice"),
        pytest.param(((0, 2), (2, 4), (4, 6)), "overlap or lie outside", id="outside"),
        pytest.param(((2, 4), (0, 2)), "overlap or lie outside", id="out of order"),
        pytest.param(((0, 1), (1, 3), (3, 4)), "microbatch 2 is missing|microbatch 1 is missing", id="no subtree"),
    ],
)
def test_merge_order_refuses_what_is_not_the_root(nodes, complaint):
    with pytest.raises(ValueError, match=complaint):
        tree.merge_order(nodes, (0, 4))
