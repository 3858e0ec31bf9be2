"""Examples that are in memory already: arrays and tables handed over in Python, checked as files are."""

from __future__ import annotations

import math

import numpy as np

from distbp.data.finite import check_finite
from distbp.data.raw import FEATURE_DTYPES, RawExamples, Wanted
from distbp.data.schema import Schema, check_inputs
from distbp.data.tables import read_frame
from distbp.errors import DataError
from distbp.protocol.examples import Examples

ORIGIN = "the array"


def take_features(schema: Schema, values: object) -> Examples:
    """Return features (n, I) or (n, *input_shape) as the run with this schema sees them; n may be 0, y is (n, 0).

    Of a table (pyarrow, pandas, polars) the run's columns are taken by name.

    Raises DataError for NaN, infinity, masked values, text, and another shape.
    """
    if hasattr(values, "__arrow_c_stream__"):
        raw = read_frame(values, Wanted(None, False, True, schema.feature_names, schema.target_names))
    else:
        raw = _to_raw(values, schema)
    check_inputs(raw, schema)
    check_finite(raw.x, raw.locate_input, raw.origin)
    return Examples(raw.x, np.empty((len(raw.x), 0)), np.arange(len(raw.x)), schema.scaling)


def _to_raw(values: object, schema: Schema) -> RawExamples:
    if np.ma.is_masked(values):
        raise DataError(f"{ORIGIN} has masked values; fill them in, or drop their rows")
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever an object raises that is no array
        raise DataError(f"a {type(values).__name__} is no array: {error}; pass numbers of shape (n, I)") from error
    if array.size == 0 and array.ndim < 2:
        array = np.empty((0, *schema.input_shape))
    if array.dtype.newbyteorder("=") not in FEATURE_DTYPES:
        raise DataError(f"{ORIGIN} has dtype {array.dtype}; expected booleans, integers, or floats of up to 64 bits")
    if array.ndim < 2 and schema.num_inputs > 1:
        raise DataError(f"{ORIGIN} has shape {array.shape}; expected (n, {schema.num_inputs}), one row an example")
    x = array.reshape(len(array), math.prod(array.shape[1:])) if array.ndim else array.reshape(1, 1)
    return RawExamples(schema.source_kind, ORIGIN, x, None, array.shape[1:] or (1,), schema.feature_names)
