"""Which reader a source belongs to, told by its name: `digits`, a folder, or a file's suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import NDArray

from distbp.data.arrays import has_held_out_arrays, read_npy_pair, read_npz
from distbp.data.digits import read_digits
from distbp.data.idx import has_held_out_files, is_idx_name, read_idx_file, read_idx_folder
from distbp.data.raw import RawExamples, Wanted
from distbp.data.reading import check_file, reading, to_path
from distbp.data.tables import Table, open_csv, open_parquet, read_csv, read_kept, read_parquet
from distbp.errors import DataError
from distbp.text.sentences import suggest

DIGITS = "digits"
READERS = {
    ".npz": read_npz,
    ".npy": read_npy_pair,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_csv,
    ".tsv.gz": read_csv,
    ".parquet": read_parquet,
}
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
SUPPORTED = "digits, a folder of IDX files, an IDX file, .npz, .npy, .csv, .tsv (both also .gz) or .parquet"


def read_source(source: str, wanted: Wanted) -> RawExamples:
    """Return the examples of any supported source.

    Raises DataError when the source is missing, of no supported kind, damaged, or does not hold what is wanted.
    """
    if source == DIGITS:
        return read_digits(wanted)
    if "://" in source:
        raise DataError(f"data source '{source}' is a URL; data are read from files, so copy or mount it")
    path = to_path(source)
    with reading(path, "data"):
        is_folder, is_missing = path.is_dir(), not path.exists()
    if is_folder:
        return read_idx_folder(path, wanted)
    if is_idx_name(path.name):
        return read_idx_file(path, wanted)
    reader = READERS.get(_find_suffix(path))
    if reader is not None:
        return reader(path, wanted)
    if is_missing and (suggestion := suggest(source, [DIGITS])):
        raise DataError(f"data source '{source}' does not exist{suggestion}")
    check_file(path)
    raise DataError(f"'{path}' has the suffix '{_find_suffix(path)}'; supported are {SUPPORTED}")


def open_table(source: str, wanted: Wanted) -> Table:
    """Return a table, whatever its columns hold. Raises DataError when it is missing or damaged."""
    path = to_path(source)
    check_file(path)
    return open_parquet(path, wanted) if _find_suffix(path) == ".parquet" else open_csv(path, wanted)


def read_columns(source: str, names: Sequence[str]) -> dict[str, NDArray]:
    """Return columns of a table as they are, (N,) each. Raises DataError where there are none of that name."""
    if not is_table_file(source):
        raise DataError(f"'{source}' is no table, so it has no columns to keep")
    path = to_path(source)
    check_file(path)
    return read_kept(path, names, _find_suffix(path) == ".parquet")


def is_table(source: str) -> bool:
    """Return whether a source is a CSV or Parquet file by its name, for which pyarrow is needed."""
    return _find_suffix(to_path(source)) in TABLE_SUFFIXES


def is_table_file(source: str) -> bool:
    """Return whether a source is a table, and no folder that is called like one."""
    if source == DIGITS or "://" in source or not is_table(source):
        return False
    path = to_path(source)
    with reading(path, "data"):
        return not path.is_dir()


def _find_suffix(path: Path) -> str:
    """Return the last suffix, in lower case, and with .gz the one before it too."""
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def is_same_data(source: str, held_out_source: str) -> bool:
    """Return whether held-out data would be read from the very files that `source` names for training."""
    if DIGITS in (source, held_out_source):
        return source == held_out_source
    train, held_out = to_path(source), to_path(held_out_source)
    with reading(held_out, "validation data"):
        is_same = train.exists() and held_out.exists() and train.samefile(held_out)
        return is_same and not (has_held_out_files(train) if train.is_dir() else has_held_out_arrays(train))
