"""The digest and the checksum of the parameter bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.nn.digests import BLOCK, block_checksum, checksum, digest

DTYPES = ["float32", "float64"]


def draw(length: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(length).standard_normal(length).astype(dtype)


def flip_bit(flat: np.ndarray, bit: int) -> np.ndarray:
    flipped = flat.copy()
    flipped.view(np.uint8)[bit // 8] ^= 1 << bit % 8
    return flipped


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_every_flipped_bit_changes_the_checksum(length, dtype):
    flat = draw(length, dtype)
    sums = {checksum(flip_bit(flat, bit)) for bit in range(8 * flat.nbytes)}
    assert checksum(flat) not in sums


@settings(deadline=None, max_examples=25)
@given(bit=st.integers(0, 8 * 4 * (2 * BLOCK + 3) - 1))
def test_a_flipped_bit_in_any_block_changes_the_checksum(bit):
    flat = draw(2 * BLOCK + 3, "float32")
    assert checksum(flip_bit(flat, bit)) != checksum(flat)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_checksums_of_blocks_add_up_in_any_order(length, dtype):
    flat = draw(length, dtype)
    blocks = [flat[start : start + BLOCK] for start in range(0, length, BLOCK)]
    parts = [block_checksum(block, index) for index, block in enumerate(blocks)]
    assert sum(reversed(parts)) % 2**64 == checksum(flat)


def test_exchanged_blocks_change_the_checksum():
    flat = draw(2 * BLOCK, "float32")
    assert checksum(np.roll(flat, BLOCK)) != checksum(flat)


@pytest.mark.parametrize("dtype", DTYPES)
def test_digest_is_the_sha256_of_the_bytes(dtype):
    flat = draw(5, dtype)
    assert digest(flat) == hashlib.sha256(flat.tobytes()).hexdigest()


def test_digest_tells_apart_what_compares_equal():
    assert digest(np.array([0.0])) != digest(np.array([-0.0]))
