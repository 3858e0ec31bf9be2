"""Examples that are in memory already: arrays and tables handed over in Python, checked as files are."""

from __future__ import annotations

import math

import numpy as np

from distbp.data.finite import check_finite
from distbp.data.prepare_table import encode_array, encode_examples, want_features
from distbp.data.raw import FEATURE_DTYPES, RawExamples, Wanted
from distbp.data.schema import Schema, check_inputs
from distbp.data.tables import open_frame
from distbp.errors import DataError
from distbp.protocol.examples import Examples

ORIGIN = "the array"


def take_features(schema: Schema, values: object) -> Examples:
    """Return features (n, I) or (n, *input_shape) as the run with this schema sees them; n may be 0, y is (n, 0).

    Of a table (pyarrow, pandas, polars) the run's columns are taken by name.

    Raises DataError for NaN, infinity, masked values, text, and another shape.
    """
    is_frame = hasattr(values, "__arrow_c_stream__")
    if schema.columns is not None and is_frame:
        return encode_examples(open_frame(values, want_features(schema)), schema, need_targets=False)
    if is_frame:
        raw = open_frame(values, Wanted(None, False, True, schema.feature_names, schema.target_names)).to_examples()
    else:
        raw = _to_raw(values, schema)
    if schema.columns is not None:
        return encode_array(raw, schema)
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
        array = np.empty((0, *schema.raw_shape))
    if array.dtype.newbyteorder("=") not in FEATURE_DTYPES:
        raise DataError(f"{ORIGIN} has dtype {array.dtype}; expected booleans, integers, or floats of up to 64 bits")
    if array.ndim < 2 and math.prod(schema.raw_shape) > 1:
        raise DataError(
            f"{ORIGIN} has shape {array.shape}; expected (n, {math.prod(schema.raw_shape)}), one row an example"
        )
    x = array.reshape(len(array), math.prod(array.shape[1:])) if array.ndim else array.reshape(1, 1)
    return RawExamples(schema.source_kind, ORIGIN, x, None, array.shape[1:] or (1,), schema.feature_names)
