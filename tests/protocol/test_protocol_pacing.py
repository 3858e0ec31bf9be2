"""Slow workers get fewer microbatches, and nobody's shard changes without a gain."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.protocol.messages import Effort
from distbp.protocol.pacing import Pacing
from distbp.protocol.planning import paced_shards

paces = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12).map(tuple)


def sizes(count, paces):
    return [shard.stop - shard.start for shard in paced_shards(count, paces)]


def after(pacing, seconds_per_microbatch, count=8, chunks=1):
    """The pacing after chunks in which workers took so many seconds per microbatch, replanned after each."""
    for _ in range(chunks):
        shares = sizes(count, pacing.planned)
        efforts = [Effort(n, n * s) for n, s in zip(shares, seconds_per_microbatch, strict=True)]
        pacing = pacing.after(efforts).replanned(count)
    return pacing


@settings(deadline=None, max_examples=100)
@given(count=st.integers(1, 200), paces=paces)
def test_paced_shards_are_consecutive_and_whole(count, paces):
    found = paced_shards(count, paces)
    assert [i for shard in found for i in range(shard.start, shard.stop)] == list(range(count))
    assert len(found) == len(paces)


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 7), paces=st.lists(st.floats(0.1, 10), min_size=1, max_size=3))
def test_no_other_sizes_finish_earlier(count, paces):
    """Against every way to share out the microbatches."""
    every = (way for way in product(range(count + 1), repeat=len(paces)) if sum(way) == count)
    best = min(max(n * pace for n, pace in zip(way, paces, strict=True)) for way in every)
    found = max(n * pace for n, pace in zip(sizes(count, tuple(paces)), paces, strict=True))
    assert found <= best * (1 + 1e-9)


def test_equal_workers_share_equally():
    assert sizes(8, (0.5, 0.5)) == [4, 4]
    assert sorted(sizes(15, (1.0,) * 4)) == [3, 4, 4, 4]


def test_a_worker_that_is_ten_times_slower_gets_a_tenth():
    assert sizes(22, (1.0, 1.0, 10.0)) == [10, 11, 1]
    assert sizes(44, (1.0, 1.0, 10.0)) == [21, 21, 2]


def test_one_slow_chunk_is_enough_to_change_the_shards():
    steady = after(Pacing.of_equals(2), (1.0, 1.0), chunks=5)
    assert sizes(8, after(steady, (10.0, 1.0)).planned)[0] < 3


def test_small_differences_change_nothing():
    steady = after(Pacing.of_equals(2), (1.0, 1.0))
    assert after(steady, (1.2, 1.0), chunks=20).planned == (1.0, 1.0)


def test_a_worker_without_a_shard_gets_one_again_when_it_has_recovered():
    slow = after(Pacing.of_equals(2), (30.0, 1.0), chunks=3)
    assert sizes(8, slow.planned) == [0, 8]
    assert sizes(8, after(slow, (1.0, 1.0), chunks=60).planned) == [4, 4]


def test_a_worker_of_which_nothing_is_known_counts_as_the_slowest():
    pacing = Pacing((1.0, 3.0, None), (1.0, 1.0, 1.0)).replanned(12)
    assert pacing.planned == (1.0, 3.0, 3.0)


def test_a_moment_of_computing_says_nothing():
    pacing = Pacing.of_equals(2)
    assert pacing.after([Effort(1, 1e-4), Effort(1, 1e-3)]) == pacing


def test_nothing_known_changes_nothing():
    assert Pacing.of_equals(3).replanned(8) == Pacing.of_equals(3)
