"""Finds NaN, infinity and numbers too large for float32 before training: where the first is, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError

CHUNK_VALUES = 1 << 20
LARGEST = np.float32(1e38)  # differences of two such numbers are still float32


def iterate_chunks(values: NDArray) -> Iterator[tuple[int, NDArray]]:
    """Yield (first row, rows) of (N, I) values from front to back; how many rows depends on I alone."""
    num_rows = max(1, CHUNK_VALUES // values.shape[1])
    for start in range(0, len(values), num_rows):
        yield start, np.asarray(values[start : start + num_rows])


def check_finite(values: NDArray, locate: Callable[[int, int], str], origin: str) -> None:
    """Raise DataError if (N, I) values hold NaN, infinity, or a number beyond 1e38."""
    if values.dtype.kind == "f":
        for start, chunk in iterate_chunks(values):
            if not is_all_usable(chunk):
                raise DataError(describe_unusable(values, start, locate, origin))


def is_all_usable(chunk: NDArray) -> bool:
    """Return whether a chunk holds neither NaN nor infinity nor a number beyond 1e38."""
    return chunk.dtype.kind != "f" or bool(_find_usable(chunk).all())


def describe_unusable(values: NDArray, start: int, locate: Callable[[int, int], str], origin: str) -> str:
    """Return the sentence about (N, I) values of which the rows before `start` are known to be usable."""
    first, total = "", 0
    for offset, chunk in iterate_chunks(values[start:]):
        rows, columns = np.nonzero(~_find_usable(chunk))
        if len(rows) and not first:
            first = f"{locate(start + offset + int(rows[0]), int(columns[0]))} is {chunk[rows[0], columns[0]]}"
        total += len(rows)
    return (
        f"{origin} has {total} values that cannot be used, the first: {first}; "
        f"expected finite numbers up to {LARGEST:.0e}, so replace them or drop their rows"
    )


def _find_usable(chunk: NDArray) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = np.abs(chunk) <= LARGEST  # false for NaN
    return usable
