"""What a reader returns and what it is asked for: examples as they are stored, before classes, split and scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError

SourceKind = Literal["digits", "idx", "npz", "npy", "csv", "parquet"]
FEATURE_DTYPES = tuple(np.dtype(code) for code in ("?", *"bhilq", *"BHILQ", *"efd"))


@dataclass(frozen=True)
class Wanted:
    """What to read from a source; the defaults are those of training data."""

    target: str | tuple[str, ...] | None = None  # target columns, or the targets' file; None: by convention
    need_targets: bool = True
    held_out: bool = False  # of an IDX folder: its t10k files, if there are any
    feature_names: tuple[str, ...] | None = None  # the run's columns, in order; None: all but the targets
    known_targets: tuple[str, ...] | None = None  # the run's target columns, used when `target` is None
    text_targets: bool = False  # the run's classes are text, so a CSV's 01 is the label "01"
    task: Literal["classification", "regression"] | None = None  # of training data; None: told by the targets
    text_features: tuple[str, ...] = ()  # categories, so a CSV's 01 is the category "01"
    any_names: bool = False  # a column without a name may be there: it will be ignored
    weight: str | None = None  # the column with the examples' weights, which is no feature


@dataclass(frozen=True)
class RawExamples:
    """The examples of one source.

    x: (N, I) features in the source's own dtype, possibly memory-mapped.
    y: (N,) labels or (N, O) targets as stored, text as an object array of str; None if not asked for.
    weights: (N,) float64, what each example counts; None: all the same, or nobody asked.
    """

    kind: SourceKind
    origin: str  # how messages call the source
    x: NDArray
    y: NDArray | None
    input_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] | None = None
    first_row: int = 0  # of a part of a file: its first row, counted in the file
    weights: NDArray[np.float64] | None = None

    def locate_input(self, row: int, column: int) -> str:
        """Return where a feature value stands, in the source's own terms."""
        if self.feature_names is not None:
            return f"{self.name_input(column)} in data row {self.first_row + row + 1}"
        inner = (int(index) for index in np.unravel_index(column, self.input_shape))
        return f"x[{', '.join(map(str, (self.first_row + row, *inner)))}]"

    def locate_target(self, row: int, column: int) -> str:
        """Return where a target value stands, in the source's own terms."""
        if self.target_names is not None:
            return f"{self.name_target(column)} in data row {self.first_row + row + 1}"
        row += self.first_row
        return f"y[{row}]" if self.y is None or self.y.ndim == 1 else f"y[{row}, {column}]"

    def name_input(self, column: int) -> str:
        """Return what a feature is called."""
        if self.feature_names is not None:
            return f"column {self.feature_names[column]!r}"
        return f"x[:, {', '.join(str(int(index)) for index in np.unravel_index(column, self.input_shape))}]"

    def name_target(self, column: int) -> str:
        """Return what a target is called."""
        if self.target_names is not None:
            return f"column {self.target_names[column]!r}"
        return f"y[:, {column}]"


def pair_arrays(
    kind: SourceKind, origin: str, x: NDArray, y: NDArray | None, y_origin: str | None = None
) -> RawExamples:
    """Return x of shape (N, ...) with its targets, (N,) or (N, O); x becomes (N, I) without being copied.

    Raises DataError for shapes, dtypes or counts that are no examples.
    """
    _check_features(x, origin)
    if y is not None:
        _check_targets(y, y_origin or origin)
        if len(x) != len(y):
            targets = f"{y_origin or origin} has {len(y)} targets"
            raise DataError(f"{origin} has {len(x)} examples but {targets}; expected one target per example")
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    return RawExamples(kind, origin, x.reshape(len(x), -1), y, x.shape[1:])


def _check_features(x: NDArray, origin: str) -> None:
    if x.dtype.newbyteorder("=") not in FEATURE_DTYPES:
        raise DataError(
            f"x of {origin} has dtype {x.dtype}; expected booleans, integers, or floats of 16, 32 or 64 bits"
        )
    if x.ndim < 2:
        raise DataError(f"x of {origin} has shape {x.shape}; expected (N, I) or (N, rows, columns)")
    if math.prod(x.shape) == 0:
        raise DataError(f"x of {origin} is empty, its shape is {x.shape}; expected at least one example and feature")
    if x.ndim > 2 and not x.flags.c_contiguous:
        raise DataError(f"x of {origin} has shape {x.shape} in Fortran order; save np.ascontiguousarray(x) instead")


def _check_targets(y: NDArray, origin: str) -> None:
    if y.dtype.newbyteorder("=") not in FEATURE_DTYPES and y.dtype != object:
        raise DataError(f"y of {origin} has dtype {y.dtype}; expected integers, booleans, floats or text")
    if y.ndim not in (1, 2) or y.shape[1:] == (0,):
        raise DataError(f"y of {origin} has shape {y.shape}; expected (N,) or (N, O)")
