"""The one place where a user's X enters: from what scikit-learn's users hand over to examples as distbp reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from distbp.data import Schema, take_features
from distbp.data.raw import RawExamples
from distbp.protocol.examples import Examples


def read_inputs(estimator: Any, x: object, reset: bool) -> NDArray:
    """Return X (n, I) in its own number format, and note its columns in the estimator, or hold it against those noted.

    A table with columns of other kinds than numbers is refused here; where tables are prepared, this is the seam.

    Raises ValueError or TypeError in scikit-learn's words, for other columns, NaN, text, and sparse matrices.
    """
    found: NDArray = validate_data(estimator, x, reset=reset, dtype="numeric", order="C")
    return found.astype(np.float64) if found.dtype == np.longdouble else found


def read_examples(estimator: Any, x: NDArray, y: NDArray) -> RawExamples:
    """Return x (n, I) with the targets y, (n,) or (n, O), under the names of the estimator's columns."""
    names = getattr(estimator, "feature_names_in_", None)
    targets = y.astype(object) if y.dtype.kind == "U" else y
    return RawExamples("npz", "X", x, targets, (x.shape[1],), None if names is None else tuple(map(str, names)))


def read_features(estimator: Any, schema: Schema, x: object) -> Examples:
    """Return what a network with this schema is to predict; raises as `read_inputs` does."""
    return take_features(schema, read_inputs(estimator, x, reset=False))
