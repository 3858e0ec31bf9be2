"""Per-feature scaling, measured on the training rows in one pass from front to back, in float64.

Chunks have a fixed size and are merged in a fixed order, so the result depends on the data and the rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from distbp.data.finite import describe_unusable, is_all_usable, iterate_chunks
from distbp.data.raw import RawExamples
from distbp.errors import DataError
from distbp.protocol.examples import Scaling

ScalingKind = Literal["none", "min-max", "standard"]

SMALLEST_SPREAD = float(np.finfo(np.float32).tiny)  # below it, 1 / spread is not a float32


def measure_scaling(raw: RawExamples, rows: NDArray[np.int64], kind: ScalingKind) -> Scaling:
    """Return the scaling that the examples in `rows`, (n,) ascending, ask for; constant features keep scale 1.

    The same pass checks every row of x, also those not in `rows`; raises DataError for NaN, infinity and numbers
    beyond 1e38.
    """
    if kind == "none" and raw.x.dtype.kind != "f":
        return Scaling()
    total: Moments | Extent | None = None
    for start, chunk in iterate_chunks(raw.x):
        if not is_all_usable(chunk):
            raise DataError(describe_unusable(raw.x, start, raw.locate_input, raw.origin))
        first, last = np.searchsorted(rows, (start, start + len(chunk)))
        if kind != "none" and first < last:
            part = _summarize(chunk, rows[first:last] - start, kind)
            total = part if total is None else total.merge(part)  # type: ignore[arg-type]  # all parts are of one kind
    return Scaling() if total is None else total.to_scaling()


def _summarize(chunk: NDArray, rows: NDArray[np.int64], kind: Literal["min-max", "standard"]) -> Moments | Extent:
    return summarize_rows(chunk[rows].astype(np.float64), kind)


def summarize_rows(values: NDArray[np.float64], kind: Literal["min-max", "standard"]) -> Moments | Extent:
    """Return what a scaling of this kind needs to know of (n, I) values, which are overwritten."""
    return Moments.of(values) if kind == "standard" else Extent.of(values)


@dataclass(frozen=True)
class Moments:
    """Count, mean (I,) and summed squared deviations from it (I,) of some rows."""

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Return the moments of (n, I) values, by two passes over them; `values` is overwritten."""
        origin = values[0].copy()
        values -= origin  # makes constant features exactly 0, where a long sum of equal numbers would drift
        offset = values.mean(axis=0)
        values -= offset
        np.square(values, out=values)
        return cls(len(values), origin + offset, values.sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + delta**2 * (self.count * other.count / count))

    def to_scaling(self) -> Scaling:
        """Return the map to mean 0 and population standard deviation 1."""
        deviation = np.sqrt(self.squares / self.count)
        rounding = 64 * np.finfo(np.float64).eps * np.abs(self.mean)  # less is noise in the last bits of a constant
        return Scaling(self.mean, _invert(deviation, deviation <= rounding))


@dataclass(frozen=True)
class Extent:
    """Smallest and largest value (I,) of some rows."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Return the extent of (n, I) values."""
        return cls(values.min(axis=0), values.max(axis=0))

    def merge(self, other: Extent) -> Extent:
        """Return the extent of both sets of rows."""
        return Extent(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def to_scaling(self) -> Scaling:
        """Return the map to [0, 1]."""
        return Scaling(self.low, _invert(self.high - self.low, self.high == self.low))


def _invert(spread: NDArray[np.float64], is_constant: NDArray[np.bool_]) -> NDArray[np.float64]:
    return 1.0 / np.where(is_constant | (spread < SMALLEST_SPREAD), 1.0, spread)
