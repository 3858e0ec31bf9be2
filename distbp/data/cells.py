"""Cells of a column as numbers, texts of categories, or parts of a date. Pure: arrow columns in, arrays out.

What stands for an empty cell: Arrow's null, NaN, an empty text; and among numbers or dates, the marks in GAPS.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.config.recipe import ColumnKind
from distbp.data.tables import CODE, LONGEST_EXAMPLE, NUMBER, to_plain

if TYPE_CHECKING:
    import pyarrow as pa

GAPS = ("", "?", "-", "--", ".", "*", "na", "n/a", "#n/a", "nan", "null", "nil", "none", "missing", "unknown")
"""Texts that mean "nothing" among numbers or dates, in lower case and without spaces around."""
DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
"""Tried in this order after Arrow's own reading of ISO 8601. 01/02/2024 may be two dates, so it is none of them."""
TRUTHS = {"true": "true", "false": "false", "1": "true", "0": "false"}
DATE = r"^\s*\d{1,4}[-/.T]\d"
HEAD = 256
"""Cells that are looked at first: most columns of text show there that they are no numbers."""
PARTS = ("year", "month", "day_of_year", "weekday", "second_of_day")
"""The parts of a date, each a number; weekday counts from Monday, 0."""


def is_text(kind: pa.DataType) -> bool:
    """Return whether cells of this type are text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: pa.DataType) -> bool:
    """Return whether cells of this type are numbers, or lengths of time, which are seconds."""
    import pyarrow as pa

    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_decimal, types.is_time, types.is_duration)
    return any(check(kind) for check in checks)


def is_date(kind: pa.DataType) -> bool:
    """Return whether cells of this type are days or moments."""
    import pyarrow as pa

    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def describe_misfit(name: str, cells: pa.ChunkedArray, kind: ColumnKind) -> str:
    """Return the words about a column whose cells are not of the kind that it has."""
    cells = to_plain(cells)
    expected = "numbers" if kind == "number" else "dates such as 2024-12-31"
    if not is_text(cells.type):
        return f"column {name!r} holds {cells.type} values where {expected} are expected"
    if kind == "number":
        _, num_others, row = count_numbers(cells)
        if row is not None:
            where = f"{quote(cells[row])} in data row {row + 1}"
            return f"column {name!r} is {where}, which is no number ({num_others} such cells in all)"
        return f"column {name!r} holds codes with leading zeros such as {quote(cells[0])}, which are no numbers"
    example = next((cell for cell in cells if cell.as_py()), cells[0])
    return f"column {name!r} holds text such as {quote(example)} where {expected} are expected"


def quote(value: pa.Scalar) -> str:
    """Return a cell for a message."""
    return repr(str(value))[:LONGEST_EXAMPLE]


def find_gap_marks(column: pa.ChunkedArray) -> list[str]:
    """Return the different texts of a text column that mean "nothing" among numbers, but the empty one."""
    from pyarrow import compute

    found = compute.unique(column.filter(_are_gaps(column)).drop_null()).to_pylist()
    return sorted(text for text in found if text.strip())


def read_numbers(column: pa.ChunkedArray) -> NDArray | None:
    """Return a column's numbers (N,), NaN for gaps, in a dtype that holds them; None where a cell is no number.

    Text is read as numbers where all of it is; codes with leading zeros are not.
    """
    import pyarrow as pa

    column = to_plain(column)
    if is_text(column.type):
        return _parse_numbers(column)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        column = _to_seconds(column)
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    elif not is_number(column.type):
        return None
    if column.null_count and pa.types.is_integer(column.type):
        column = column.cast(pa.float64(), safe=False)
    values: NDArray = column.to_numpy()  # nulls of floats become NaN
    return _shrink(values)


def read_labels(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return the text of every category, null for a gap: true and false in lower case, whole numbers without a point.

    None where the cells are no text, numbers or truth values.
    """
    import pyarrow as pa
    from pyarrow import compute

    column = to_plain(column)
    if is_text(column.type):
        texts = column.cast(pa.large_string())
        texts = compute.if_else(compute.equal(texts, ""), pa.scalar(None, texts.type), texts)
        return _name_truths(texts) if are_truths(texts) else texts
    if pa.types.is_null(column.type) or pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return _name_floats(column.cast(pa.float64()))
    if is_date(column.type):
        return column.cast(pa.large_string())
    return None


def are_truths(texts: pa.ChunkedArray) -> bool:
    """Return whether texts are true and false, as readers of text tables tell: with gaps, with 1 and 0 beside words."""
    from pyarrow import compute

    if len(compute.unique(texts.slice(0, HEAD))) > len(TRUTHS) + len(GAPS):
        return False
    known = compute.unique(_blank_gaps(texts).drop_null())
    words = {text.strip().lower() for text in known.to_pylist()} if len(known) <= len(TRUTHS) ** 2 else {""}
    return words <= set(TRUTHS) and not words <= {"0", "1"}


def _name_truths(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return true, false or null for texts that are truths."""
    import pyarrow as pa
    from pyarrow import compute

    plain = compute.utf8_lower(compute.utf8_trim_whitespace(_blank_gaps(texts)))
    place = compute.index_in(plain, value_set=pa.array([*TRUTHS], plain.type))
    return pa.chunked_array([pa.array(TRUTHS.values(), pa.large_string()).take(place.combine_chunks())])


def read_moments(column: pa.ChunkedArray) -> NDArray[np.datetime64] | None:
    """Return the moments (N,) of a column of dates, to the microsecond, NaT for gaps; None where a cell is no date."""
    import pyarrow as pa

    column = to_plain(column)
    if is_text(column.type):
        return _parse_moments(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), "NaT", "datetime64[us]")
    if not is_date(column.type):
        return None
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit))
    moments: NDArray[np.datetime64] = column.to_numpy().astype("datetime64[us]")
    return moments


def split_moments(moments: NDArray[np.datetime64], part: str) -> NDArray[np.float64]:
    """Return one of PARTS of every moment, (N,), NaN for gaps."""
    gaps = np.isnat(moments)
    known = np.where(gaps, np.datetime64(0, "us"), moments)
    days = known.astype("datetime64[D]")
    years = days.astype("datetime64[Y]")
    if part == "year":
        values = years.astype(np.int64) + 1970
    elif part == "month":
        values = days.astype("datetime64[M]").astype(np.int64) % 12 + 1
    elif part == "day_of_year":
        values = (days - years.astype("datetime64[D]")).astype(np.int64) + 1
    elif part == "weekday":
        values = (days.astype(np.int64) + 3) % 7
    else:
        values = (known - days).astype("timedelta64[us]").astype(np.int64) / 1e6
    return np.where(gaps, np.nan, values)


def _are_gaps(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which texts mean "nothing"; nulls do too."""
    import pyarrow as pa
    from pyarrow import compute

    plain = compute.utf8_lower(compute.utf8_trim_whitespace(column))
    return compute.is_in(plain, value_set=pa.array([*GAPS, None], plain.type))


def _blank_gaps(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    from pyarrow import compute

    return compute.if_else(_are_gaps(column), pa.scalar(None, column.type), column)


def _are_numbers(column: pa.ChunkedArray) -> bool:
    from pyarrow import compute

    texts = _blank_gaps(column).drop_null()
    fits = compute.match_substring_regex(texts, NUMBER)
    has_codes = compute.any(compute.match_substring_regex(texts, CODE), min_count=0).as_py()
    return bool(compute.all(fits, min_count=0).as_py()) and not has_codes


def _parse_numbers(column: pa.ChunkedArray) -> NDArray | None:
    import pyarrow as pa
    from pyarrow import compute

    if not (_are_numbers(column.slice(0, HEAD)) and _are_numbers(column)):
        return None
    trimmed = compute.utf8_trim_whitespace(_blank_gaps(column))
    unsigned = compute.replace_substring_regex(trimmed, r"^\+", "")
    return _shrink(unsigned.cast(pa.float64()).to_numpy())


def count_numbers(column: pa.ChunkedArray) -> tuple[int, int, int | None]:
    """Return how many texts are numbers, how many are neither that nor gaps, and the row of the first of these."""
    from pyarrow import compute

    fits = compute.match_substring_regex(column, NUMBER)
    others = compute.invert(compute.or_kleene(fits, _are_gaps(column))).fill_null(False)
    num_others = compute.sum(others).as_py() or 0
    return compute.sum(fits).as_py() or 0, num_others, others.index(True).as_py() if num_others else None


def _parse_moments(column: pa.ChunkedArray) -> NDArray[np.datetime64] | None:
    import pyarrow as pa
    from pyarrow import compute

    head = _blank_gaps(column.slice(0, HEAD)).drop_null()
    if not compute.all(compute.match_substring_regex(head, DATE), min_count=0).as_py():
        return None
    texts = compute.utf8_trim_whitespace(_blank_gaps(column))
    if texts.null_count == len(texts):
        return np.full(len(column), "NaT", "datetime64[us]")
    if not compute.all(compute.match_substring_regex(texts, DATE), min_count=0).as_py():
        return None
    ways: list[Callable[[], pa.ChunkedArray]] = [lambda: texts.cast(pa.timestamp("us"))]
    ways += [partial(compute.strptime, texts, format=form, unit="us") for form in DATE_FORMATS]
    for read in ways:
        with suppress(pa.ArrowInvalid):
            moments: NDArray[np.datetime64] = read().to_numpy()
            return moments
    return None


def _to_seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    units = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
    whole = pa.int32() if column.type.bit_width == 32 else pa.int64()
    counts = column.cast(whole).cast(pa.float64(), safe=False)
    return pa.chunked_array([pa.array(counts.to_numpy() / units[column.type.unit], from_pandas=True)])


def _name_floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    values = column.to_numpy()
    names = {value: _name_float(value) for value in np.unique(values[~np.isnan(values)]).tolist()}
    return pa.chunked_array([pa.array([names.get(value) for value in values.tolist()], pa.large_string())])


def _name_float(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _shrink(values: NDArray) -> NDArray:
    """Return whole numbers in the smallest dtype that holds them."""
    if values.dtype.kind not in "iu" or not len(values):
        return values
    return values.astype(np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
