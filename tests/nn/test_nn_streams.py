"""Random numbers are keyed: a draw depends on its key and on nothing that was drawn before."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.nn.streams import Purpose, Streams, epoch_order, stream

KEYS = list(itertools.product([0, 1, 2**63 - 1], Purpose, [0, 1, 10**6], [0, 1]))


def test_draws_do_not_depend_on_the_order_of_calls():
    forwards = {key: stream(*key).random(4).tobytes() for key in KEYS}
    backwards = {key: stream(*key).random(4).tobytes() for key in reversed(KEYS)}
    assert forwards == backwards


def test_different_keys_draw_different_numbers():
    assert len({stream(*key).random(4).tobytes() for key in KEYS}) == len(KEYS)


def test_streams_of_neighbouring_keys_do_not_overlap():
    draws = np.concatenate([stream(0, Purpose.DROPOUT, step, 0).random(1000) for step in range(5)])
    assert len(np.unique(draws)) == len(draws)


def test_a_rekeyed_generator_draws_what_a_new_one_does():
    streams = Streams(7, Purpose.DROPOUT)
    for step, microbatch in [(0, 0), (3, 1), (10**6, 2), (3, 1), (2**63, 2**63)]:
        rng = streams.at(step, microbatch)
        assert rng.random(5).tobytes() == stream(7, Purpose.DROPOUT, step, microbatch).random(5).tobytes()
        rng.integers(0, 10, 3, dtype=np.uint32)  # leaves half a word and half a block behind


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6), num_examples=st.integers(1, 200))
def test_epoch_order_is_a_permutation(seed, epoch, num_examples):
    assert sorted(epoch_order(seed, epoch, num_examples)) == list(range(num_examples))


@pytest.mark.parametrize(("other_seed", "other_epoch"), [(0, 1), (1, 0)])
def test_epoch_orders_differ_between_epochs_and_seeds(other_seed, other_epoch):
    assert epoch_order(0, 0, 100).tolist() != epoch_order(other_seed, other_epoch, 100).tolist()
