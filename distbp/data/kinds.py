"""Which kind each column of a table is, told by what is in its training rows, and said in a sentence where it matters.

The rules, in this order, for columns that `data.columns` does not name:

- no values, or one value in all rows: ignored
- numbers (also as text with `?` or `NA` for gaps): a number; ignored if they number the rows
- true and false: a category
- days, moments, and text that is all dates: a date
- text, also as a dictionary: a category; ignored if nearly every row has another, or there are too many
- anything else (lists, bytes): refused, unless it is named `ignore`

Everything that is wrong with a table comes in one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.config.recipe import ColumnKind
from distbp.data.cells import (
    HEAD,
    count_numbers,
    describe_misfit,
    find_gap_marks,
    is_text,
    quote,
    read_labels,
    read_moments,
    read_numbers,
)
from distbp.data.tables import to_plain
from distbp.errors import DataError
from distbp.text.sentences import suggest

if TYPE_CHECKING:
    import pyarrow as pa

FEW_ROWS = 20
"""With fewer rows a column may number them, or differ in each, by chance; and this many categories are always few."""
COUNTS = "numbers the rows"
MOST_CHOSEN_CATEGORIES = 1000
MOST_CATEGORIES = 10_000
_ID_NAME = re.compile(
    r"(?i:unnamed: ?\d+|rownames?|row|row[_ ]?(no|nr|num|number|id)|index|idx|id|uuid|guid|#)|.*(_id|[_ ]ID|[a-z]I[dD])"
)


@dataclass(frozen=True)
class Choice:
    """What a column is taken for. why: the reason for ignoring it. note: what to know about it otherwise."""

    name: str
    kind: ColumnKind
    why: str | None = None
    note: str | None = None
    values: NDArray | None = None  # its numbers, or the moments of a date, of all rows
    labels: pa.ChunkedArray | None = None  # of a category, of all rows


def choose_kinds(
    table: pa.Table, names: Sequence[str], named: Mapping[str, ColumnKind], rows: NDArray[np.int64], origin: str
) -> list[Choice]:
    """Return what each of the columns `names` is.

    named: the kinds that the user wants.
    rows: those of the training part.

    Raises DataError with all that is wrong.
    """
    problems = [_describe_unknown(name, names) for name in named if name not in names]
    choices = []
    for name in names:
        try:
            choices.append(_choose(name, table.column(name), named.get(name), rows))
        except _ProblemError as problem:
            problems.append(str(problem))
    if problems:
        raise DataError(f"{origin} cannot be used as it is: {'; '.join(problems)}")
    if all(choice.kind == "ignore" for choice in choices):
        choices = [_keep_counter(choice, table, rows) if choice.why == COUNTS else choice for choice in choices]
    if all(choice.kind == "ignore" for choice in choices):
        reasons = "; ".join(f"{choice.name!r} {choice.why}" for choice in choices[:6])
        raise DataError(f"{origin} has no column to learn from: {reasons}; name one in data.columns to use it")
    return choices


class _ProblemError(Exception):
    """What is wrong with one column, and the setting that mends it."""


def _choose(name: str, column: pa.ChunkedArray, wanted: ColumnKind | None, rows: NDArray[np.int64]) -> Choice:
    if wanted == "ignore":
        return Choice(name, "ignore", "is ignored as data.columns says")
    if wanted is None:
        return _choose_freely(name, column, rows)
    return _NAMED[wanted](name, column, rows)


def _choose_freely(name: str, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> Choice:
    import pyarrow as pa

    plain = to_plain(column)
    is_category = pa.types.is_dictionary(column.type)
    if not name:
        return Choice(name, "ignore", "has no name (pandas writes such an index column unless to_csv gets index=False)")
    if is_category and (labels := read_labels(plain)) is not None:
        return _check_labels(name, labels, rows)
    if pa.types.is_boolean(plain.type):
        return _check_variety(name, read_labels(plain), rows)
    if (values := read_numbers(plain)) is not None:
        return _choose_number(name, plain, values, rows)
    if (moments := read_moments(plain)) is not None:
        return _choose_date(name, moments, rows)
    if is_text(plain.type):
        return _choose_text(name, plain, rows)
    raise _ProblemError(_describe_unusable(name, plain))


def _choose_number(name: str, column: pa.ChunkedArray, values: NDArray, rows: NDArray[np.int64]) -> Choice:
    known = _known(values[rows])
    if len(known) == 0:
        return Choice(name, "ignore", "has no values")
    if known.min() == known.max():
        return Choice(name, "ignore", f"is {known[0]:g} in every row")
    if _numbers_rows(name, values):
        return Choice(name, "ignore", COUNTS)
    marks = find_gap_marks(column) if is_text(column.type) else []
    note = f"takes {' and '.join(map(repr, marks[:3]))} for empty cells" if marks else None
    return Choice(name, "number", note=note, values=values)


def _keep_counter(choice: Choice, table: pa.Table, rows: NDArray[np.int64]) -> Choice:
    """Return a column that numbers the rows as a number, where there is nothing else to learn from."""
    found = _name_number(choice.name, table.column(choice.name), rows)
    return replace(found, note=f"{COUNTS}, and is used because there is no other")


def _choose_date(name: str, moments: NDArray[np.datetime64], rows: NDArray[np.int64]) -> Choice:
    known = moments[rows][~np.isnat(moments[rows])]
    if len(known) == 0 or known.min() == known.max():
        return Choice(name, "ignore", f"is {known[0]} in every row" if len(known) else "has no values")
    return Choice(name, "date", values=moments)


def _choose_text(name: str, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> Choice:
    labels = read_labels(column)
    assert labels is not None  # it is text
    num_numbers, num_others, row = count_numbers(column.slice(0, HEAD))
    if num_numbers > num_others:
        num_numbers, num_others, row = count_numbers(column)
    if row is not None and num_numbers > num_others and _count_different(labels, rows) > FEW_ROWS:
        advice = "mend these cells, or set data.columns to category or ignore for it"
        raise _ProblemError(f"{describe_misfit(name, column, 'number')}: {advice}")
    return _check_labels(name, labels, rows)


def _check_labels(name: str, labels: pa.ChunkedArray, rows: NDArray[np.int64]) -> Choice:
    num_different = _count_different(labels, rows)
    if num_different > max(FEW_ROWS, len(rows) // 2):
        every = "every row" if num_different == len(rows) else f"nearly every row ({num_different:,} different)"
        return Choice(name, "ignore", f"has another text in {every}")
    if num_different > MOST_CHOSEN_CATEGORIES:
        return Choice(name, "ignore", f"has {num_different:,} different texts, too many for categories")
    return _check_variety(name, labels, rows)


def _check_variety(name: str, labels: pa.ChunkedArray | None, rows: NDArray[np.int64]) -> Choice:
    from pyarrow import compute

    assert labels is not None  # text and truth values have labels
    found = compute.unique(labels.take(rows)).to_pylist()
    if len(found) == 1:
        return Choice(name, "ignore", "has no values" if found[0] is None else f"is {found[0]!r} in every row")
    return Choice(name, "category", labels=labels)


def _name_number(name: str, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> Choice:
    values = read_numbers(column)
    if values is None:
        advice = f"mend these cells, or set data.columns.{name} to category or ignore"
        raise _ProblemError(f"{describe_misfit(name, column, 'number')}: {advice}")
    if len(_known(values[rows])) == 0:
        raise _ProblemError(f"column {name!r} has no values: set data.columns.{name} to ignore")
    return Choice(name, "number", values=values)


def _name_category(name: str, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> Choice:
    labels = read_labels(column)
    if labels is None:
        raise _ProblemError(_describe_unusable(name, to_plain(column)))
    num_different = _count_different(labels, rows)
    if num_different == 0:
        raise _ProblemError(f"column {name!r} has no values: set data.columns.{name} to ignore")
    if num_different > MOST_CATEGORIES:
        raise _ProblemError(
            f"column {name!r} has {num_different:,} different values, and each would be an input of the network; at "
            f"most {MOST_CATEGORIES:,} can be: set data.columns.{name} to ignore, or group its values"
        )
    return Choice(name, "category", labels=labels)


def _name_date(name: str, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> Choice:
    moments = read_moments(column)
    if moments is None:
        advice = f"write them so, or set data.columns.{name} to category or ignore"
        raise _ProblemError(f"{describe_misfit(name, column, 'date')}: {advice}")
    if np.isnat(moments[rows]).all():
        raise _ProblemError(f"column {name!r} has no values: set data.columns.{name} to ignore")
    return Choice(name, "date", values=moments)


_NAMED: Mapping[str, Callable[[str, pa.ChunkedArray, NDArray[np.int64]], Choice]] = {
    "number": _name_number,
    "category": _name_category,
    "date": _name_date,
}


def _known(values: NDArray) -> NDArray:
    return values[~np.isnan(values)] if values.dtype.kind == "f" else values


def _numbers_rows(name: str, values: NDArray) -> bool:
    """Return whether whole numbers all differ and go up by one from row to row, or are called an id."""
    if len(values) < FEW_ROWS or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return False
    if values.dtype.kind == "f" and (values != np.floor(values)).any():
        return False
    if (np.diff(values.astype(np.float64)) == 1).all():
        return True
    return _ID_NAME.fullmatch(name) is not None and len(np.unique(values)) == len(values)


def _count_different(labels: pa.ChunkedArray | None, rows: NDArray[np.int64]) -> int:
    from pyarrow import compute

    return 0 if labels is None else int(compute.count_distinct(labels.take(rows)).as_py())


def _describe_unusable(name: str, column: pa.ChunkedArray) -> str:
    import pyarrow as pa

    what = f"column {name!r} holds {column.type} values such as {quote(column[0])}"
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        what = f"column {name!r} holds bytes such as {quote(column[0])}; it is not UTF-8 text"
    return f"{what}: set data.columns.{name} to ignore, or store numbers, text or dates"


def _describe_unknown(name: str, names: Sequence[str]) -> str:
    return f"data.columns names {name!r}, and there is no such column" + (suggest(name, names) or "")
