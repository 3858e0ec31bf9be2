"""The training arrays as workers hold them: read-only, raw, shared; floats are made per microbatch.

Shape legend: N rows in the arrays, n of them selected, B in a microbatch, I inputs, O outputs.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

NUM_SAMPLED_ROWS = 1024
PIECE_BYTES = 1 << 20
COARSE = 2.0**-8
"""Of a feature's spread: where its values are further apart in float32, they are shifted before they are rounded."""


@dataclass(frozen=True)
class FarFeatures:
    """F features that are shifted in float64: columns (F,) their numbers, shift (F,) float64."""

    columns: NDArray[np.intp]
    shift: NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """The affine map from raw features to inputs: (x - shift) * scale.

    shift, scale: (I,) float64, measured on the training part; None for features that are not shifted or scaled.
    After `cast` the scale may have the shape ().
    far: after `cast`, the features too far from 0 for their spread, such as Unix times; None: there are none.
    """

    shift: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    far: FarFeatures | None = None

    def cast(self, dtype: DTypeLike, raw: np.dtype) -> Scaling:
        """Return the same map in `dtype`: without a shift of zeros, and with one number for a scale that all share.

        raw: the dtype of the features that it is for.
        """
        shift = None if self.shift is None or not self.shift.any() else self.shift.astype(dtype)
        scale = None if self.scale is None else self.scale.astype(dtype)
        far = None if self.shift is None or self.scale is None else _find_far(self.shift, self.scale, raw, dtype)
        if scale is not None and scale.size > 0 and (scale == scale[0]).all():
            scale = scale[0]
        return Scaling(shift, scale, far)

    def apply(self, raw: NDArray, dtype: DTypeLike) -> NDArray:
        """Return (B, I) raw features as (B, I) inputs in `dtype`, to which `self` has been cast."""
        x = raw.astype(dtype)
        if self.shift is not None:
            x -= self.shift
        if self.far is not None:
            x[:, self.far.columns] = raw[:, self.far.columns] - self.far.shift
        if self.scale is not None:
            x *= self.scale
        return x


@dataclass(frozen=True)
class Encoding:
    """From a table's rows as they are stored to inputs: gaps filled, then an input for each gap and each category.

    A row has n numbers, where NaN is a gap, and k codes, one for each column of categories. Code 0 is a category that
    has no input: it was not among the training examples. Code c is input c - 1 of its column.

    fill: (n,) float64, what stands for a gap. indicators: (m,) which numbers have an input that is 1 for a gap.
    sizes: (k,) how many inputs each column of categories has.
    """

    fill: NDArray[np.float64]
    indicators: NDArray[np.intp]
    sizes: tuple[int, ...] = ()

    @property
    def num_inputs(self) -> int:
        """The number of inputs: those of numbers, of gaps, of categories, in this order."""
        return len(self.fill) + len(self.indicators) + sum(self.sizes)

    def apply(self, raw: NDArray, scaling: Scaling, dtype: DTypeLike) -> NDArray:
        """Return (B, I) inputs in `dtype`, to which `scaling`, the numbers' own, has been cast.

        raw: (B, n) numbers, or (B,) records of "numbers" (n,) and "codes" (k,), where there are categories.
        """
        numbers = raw if raw.dtype.names is None else raw["numbers"]
        x = np.zeros((len(raw), self.num_inputs), dtype)
        after = len(self.fill) + len(self.indicators)
        if numbers.dtype.kind == "f" and (gaps := np.isnan(numbers)).any():
            numbers = np.where(gaps, self.fill, numbers)
            x[:, len(self.fill) : after] = gaps[:, self.indicators]
        x[:, : len(self.fill)] = scaling.apply(numbers, dtype)
        if self.sizes:
            codes = raw["codes"]
            places = codes + self._firsts
            places += np.arange(0, x.size, x.shape[1])[:, None]
            x.reshape(-1)[places if codes.all() else places[codes > 0]] = 1
        return x

    @cached_property
    def _firsts(self) -> NDArray[np.intp]:
        """The input of code 1 of every column of categories, less 1: (k,)."""
        return len(self.fill) + len(self.indicators) + np.cumsum((0, *self.sizes[:-1])) - 1


def _find_far(shift: NDArray, scale: NDArray, raw: np.dtype, dtype: DTypeLike) -> FarFeatures | None:
    """Return the features that lose values of `raw` when rounded to `dtype`, by what their spread 1 / scale shows."""
    if np.can_cast(raw, dtype):
        return None
    steps = np.spacing(np.abs(shift).astype(dtype)).astype(np.float64)  # between two numbers near the shift
    is_far = steps * scale > COARSE
    if raw.kind in "iu":
        is_far &= steps > 1
    columns = np.flatnonzero(is_far)
    return FarFeatures(columns, shift[columns]) if len(columns) else None


@dataclass(frozen=True)
class Examples:
    """A selection of rows from shared arrays.

    x: (N, I) raw features of any real dtype, possibly memory-mapped; of a table what `encoding` says.
    y: (N,) int64 class numbers, or (N, O) float64 targets.
    rows: (n,) int64, ascending: the rows that belong to this selection; example i is row rows[i].
    targets: the scaling of y, float64 arrays (O,), or none.
    weights: (N,) float64, what each example counts; None: all the same.
    """

    x: NDArray
    y: NDArray
    rows: NDArray[np.int64]
    scaling: Scaling = Scaling()
    encoding: Encoding | None = None
    targets: Scaling = Scaling()
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def ready(self, dtype: DTypeLike) -> Examples:
        """Return the same examples, prepared once for many calls of `take` with this dtype."""
        raw = self.x.dtype if self.x.dtype.names is None else self.x.dtype["numbers"].base
        return replace(self, x=np.asarray(self.x), y=np.asarray(self.y), scaling=self.scaling.cast(dtype, raw))

    def expect_random_access(self) -> None:
        """Tell the kernel that a memory-mapped x is read row by row: reading ahead would fetch 30 times too much."""
        mapping = getattr(self.x, "_mmap", None)
        if mapping is not None and hasattr(mmap, "MADV_RANDOM"):
            mapping.madvise(mmap.MADV_RANDOM)

    def take(self, indices: NDArray[np.int64] | slice, dtype: DTypeLike) -> tuple[NDArray, NDArray]:
        """Return the inputs (B, I) in `dtype` and the targets (B,) int64 or (B, O) in `dtype` of some examples.

        Only examples that are `ready` give the same bits everywhere: others are scaled in float64.
        """
        rows = self.rows[indices]
        raw, y = self.x.take(rows, axis=0), self.y[rows]
        x = self.scaling.apply(raw, dtype) if self.encoding is None else self.encoding.apply(raw, self.scaling, dtype)
        if self.targets.shift is not None and self.targets.scale is not None:
            y = (y - self.targets.shift) * self.targets.scale
        return x, y if y.ndim == 1 else y.astype(dtype)

    def take_weights(self, indices: NDArray[np.int64] | slice) -> NDArray[np.float64] | None:
        """Return what each of some examples counts, (B,) float64; None where all count the same."""
        return None if self.weights is None else self.weights[self.rows[indices]]

    def take_judged(self, indices: NDArray[np.int64] | slice, dtype: DTypeLike) -> tuple[NDArray, ...]:
        """Return what a model's sums are made of: x and y as `take` gives them, then weights where there are some."""
        weights = self.take_weights(indices)
        return (*self.take(indices, dtype), *(() if weights is None else (weights,)))

    def fingerprint(self) -> str:
        """Return a SHA-256 over every value of the selected inputs, targets and weights, in order.

        Arrays are read in pieces, so they may be mapped and larger than memory. Rows that are not selected, and where
        in the arrays the others lie, do not matter.
        """
        sha = hashlib.sha256()
        for array in (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights):
            kind = array.dtype.str if array.dtype.names is None else array.dtype.descr
            sha.update(f"{(len(self.rows), *array.shape[1:])} {kind};".encode())
            num_rows = max(1, PIECE_BYTES // max(1, array.itemsize * math.prod(array.shape[1:])))
            for start in range(0, len(self.rows), num_rows):
                sha.update(np.ascontiguousarray(array[self.rows[start : start + num_rows]]).data)
        return sha.hexdigest()

    def fingerprint_of_0_1_0(self) -> str:
        """Return the witness in checkpoints of version 0.1.0: over the row selection and a sample of the examples.

        That is shapes, dtypes and up to 1,024 evenly spaced examples, or up to twice as many.
        """
        sampled = self.rows[:: max(1, len(self.rows) // NUM_SAMPLED_ROWS)]
        sha = hashlib.sha256(f"{self.x.shape} {self.x.dtype} {self.y.shape} {self.y.dtype}".encode())
        for array in (self.rows, self.x[sampled], self.y[sampled]):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()
