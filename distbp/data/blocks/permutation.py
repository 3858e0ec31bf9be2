"""Random choices that are evaluated piece by piece: keyed permutations of n, and a keyed choice of examples.

Integers only, so the bits are the same on every machine. Nothing here holds n numbers, however large n is.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 48
SMALL = 1 << 10
"""Up to this size a permutation is a table: short halves of a number mix badly, and a table is faster."""

NUM_ROUNDS = 8
_U64 = np.uint64
_MULTIPLIERS = (_U64(0xBF58476D1CE4E5B9), _U64(0x94D049BB133111EB))  # of splitmix64 (Steele, Lea & Flood 2014)
_SHIFTS = (_U64(30), _U64(27), _U64(31))


class BlockPurpose(IntEnum):
    """What a choice is for; the numbers are part of the recipe and never change."""

    BLOCKS = 0
    WINDOW = 1
    HELD_OUT = 2
    PACK = 3


def make_keys(seed: int, purpose: BlockPurpose, *indices: int) -> NDArray[np.uint64]:
    """Return (8,) keys hashed from all arguments: keys of neighbouring arguments have nothing in common."""
    message = struct.pack(f"<{2 + len(indices)}Q", seed, purpose, *indices)
    return np.frombuffer(hashlib.blake2b(message, digest_size=8 * NUM_ROUNDS).digest(), "<u8").astype(np.uint64)


def mix(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """Return a hash of each value, (n,). Products carry upwards only, so shifts bring bits down again."""
    mixed = values + key
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        mixed ^= mixed >> shift
        mixed *= multiplier
    mixed ^= mixed >> _SHIFTS[2]
    return mixed


class KeyedPermutation:
    """A permutation of 0 .. size - 1 that `keys` choose, evaluated at the positions that are asked for.

    A Feistel network (Luby & Rackoff 1988) permutes the numbers of b bits, the fewest that hold `size`. A result
    outside goes through it again until it is inside (cycle walking, Black & Rogaway 2002).
    """

    def __init__(self, size: int, keys: NDArray[np.uint64]):
        if not 0 < size <= LARGEST:
            raise ValueError(f"size={size}; expected 1 to {LARGEST}")
        self.size = size
        self._keys = keys
        num_bits = max(2, (size - 1).bit_length())
        self._widths = (num_bits // 2, num_bits - num_bits // 2)
        self._table = _shuffle(size, keys[0]) if size <= SMALL else None

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what stands at `positions`, int64 of the same shape (n,)."""
        if self._table is not None:
            return self._table[positions]
        found = self._encipher(positions.astype(np.uint64))
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            again = self._encipher(found[outside])
            found[outside] = again
            outside = outside[again >= self.size]
        return found.astype(np.int64)

    def _encipher(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left_width, right_width = self._widths
        left, right = values >> _U64(right_width), values & _mask(right_width)
        for key in self._keys:  # an even number of rounds, so the widths end where they began
            left, right = right, left ^ (self._round(right, key) & _mask(left_width))
            left_width, right_width = right_width, left_width
        return (left << _U64(right_width)) | right

    def _round(self, half: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
        return mix(half, key)


def is_held_out(indices: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return for each example's index in the source, (n,), whether it belongs to the held-out `fraction`."""
    if fraction == 0.0:
        return np.zeros(len(indices), np.bool_)
    key = make_keys(seed, BlockPurpose.HELD_OUT)[0]
    held: NDArray[np.bool_] = mix(indices.astype(np.uint64), key) < _U64(int(fraction * 2.0**64))
    return held


def _shuffle(size: int, key: np.uint64) -> NDArray[np.int64]:
    return np.argsort(mix(np.arange(size, dtype=np.uint64), key), kind="stable")


def _mask(num_bits: int) -> np.uint64:
    return _U64((1 << num_bits) - 1)


def permute_all(size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return a whole permutation, for the few things that are held in memory anyway, such as blocks."""
    return _shuffle(size, keys[0])
