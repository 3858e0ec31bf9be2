"""Two witnesses over the parameter bytes: a digest that proves equality and a checksum that is nearly free."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16
"""Values per block of the flat vector: what is updated, measured and checked while it lies in cache."""

_MODULUS = 1 << 64


def digest(flat: NDArray) -> str:
    """Return the SHA-256, in hex, of the flat vector's bytes (little-endian, as they lie)."""
    return hashlib.sha256(np.ascontiguousarray(flat).view(np.uint8).data).hexdigest()


def block_checksum(block: NDArray, index: int) -> int:
    """Return what block number `index` adds to the checksum: its 64-bit words summed, times 2 index + 1, mod 2^64.

    One changed bit changes it with certainty. Terms add up in any order, so servers can each sum their own.
    """
    whole = len(block) * block.itemsize // 8 * 8 // block.itemsize
    words = int(np.add.reduce(block[:whole].view(np.uint64)))
    if whole < len(block):
        words += int(block[whole:].view(np.uint32)[0])
    return words * (2 * index + 1) % _MODULUS


def checksum(flat: NDArray) -> int:
    """Return the checksum of the whole flat vector, mod 2^64."""
    starts = range(0, len(flat), BLOCK)
    return sum(block_checksum(flat[i : i + BLOCK], i // BLOCK) for i in starts) % _MODULUS
