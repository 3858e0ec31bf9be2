"""The batch of a large table, where nobody has set it."""

from __future__ import annotations

import pytest

from distbp.config import Recipe
from distbp.config.settling import Facts, settle


def settled(num_examples: int, is_table: bool = True, **settings) -> Recipe:
    return settle(Recipe.model_validate(settings), Facts(is_table, False, num_examples))


@pytest.mark.parametrize(
    ("num_examples", "size"), [(100, 64), (32_000, 64), (32_001, 128), (100_000, 256), (1_000_000, 512), (10**8, 512)]
)
def test_an_epoch_of_a_large_table_is_500_steps_while_the_batch_may_grow(num_examples, size):
    recipe = settled(num_examples)
    assert (recipe.global_batch_size, recipe.microbatch_size) == (size, size // 8)


def test_a_batch_that_somebody_has_set_stays():
    assert settled(10**6, global_batch_size=64).global_batch_size == 64
    assert settled(10**6, microbatch_size=4).microbatch_size == 4


def test_the_batch_of_arrays_stays():
    assert settled(10**6, is_table=False).global_batch_size == 64


def test_what_is_settled_is_settled_to_the_same():
    once = settled(10**6)
    assert settle(once, Facts(True, False, 10**6)) == once


def test_a_microbatch_of_auto_is_as_good_as_none():
    assert settled(10**6, microbatch_size="auto") == settled(10**6)
