"""Predictions as a table, and the table as a file: .csv and .parquet through pyarrow, .npz through NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distbp.data import Schema
from distbp.errors import ConfigError, StorageError
from distbp.installation import need
from distbp.machine.aside import replace_file
from distbp.prediction.trained_run import Predictions
from distbp.text.printable import printable
from distbp.text.sentences import find_near


@dataclass(frozen=True)
class PredictionTable:
    """Named columns of n rows each: a label or one value per target, then probabilities where asked for.

    Of sequences a column is an array (n, T), which .npz keeps so; other files have a column for each place.
    """

    columns: Mapping[str, NDArray]

    @property
    def num_rows(self) -> int:
        """The number of examples."""
        return len(next(iter(self.columns.values())))

    def describe_columns(self, limit: int = 6) -> str:
        """Return the columns' names for a message."""
        names = [printable(name) for name in self.columns]
        more = f", ... {names[-1]} ({len(names)} columns)" if len(names) > limit else ""
        return ", ".join(names[: limit - 1] if more else names) + more

    def flat(self) -> dict[str, NDArray]:
        """Return columns of one value a row; of what has several, one for each: name_0, name_1, ..."""
        return dict(column for name, values in self.columns.items() for column in _flatten(name, values))


def tabulate(predictions: Predictions, schema: Schema, probabilities: bool = False) -> PredictionTable:
    """Return predictions under the names of the run's target columns, or "prediction" where targets have none.

    probabilities: add a column probability_<label> for each class. Raises ConfigError for that in regression.
    """
    if schema.labels is not None and predictions.labels is not None:
        names = _name_targets(schema)
        columns = dict(zip(names, predictions.labels.T, strict=True))
        likely = {f"probability_{name}": a for name, a in zip(names, predictions.outputs.T, strict=True)}
        return PredictionTable({**columns, **(likely if probabilities else {})})
    if predictions.labels is None:
        if probabilities:
            raise ConfigError("--probabilities is for classification, and this run predicts numbers; leave it out")
        return PredictionTable(dict(zip(_name_targets(schema), predictions.outputs.T, strict=True)))
    if schema.target_shape and schema.target_names is not None:
        columns = dict(zip(schema.target_names, predictions.labels.T, strict=True))
    else:
        columns = {_name_targets(schema)[0]: predictions.labels}
    if probabilities:
        for number, label in enumerate(schema.classes or ()):
            columns[f"probability_{label}"] = predictions.outputs[..., number]
    return PredictionTable(columns)


def keep_columns(table: PredictionTable, kept: Mapping[str, NDArray]) -> PredictionTable:
    """Return the table with columns of the data before its own. Raises ConfigError for a name that is there twice."""
    doubles = [name for name in kept if name in table.columns]
    if doubles:
        raise ConfigError(f"--keep {doubles[0]}: the predictions have a column of that name; keep another")
    return PredictionTable({**kept, **table.columns})


def _flatten(name: str, values: NDArray) -> list[tuple[str, NDArray]]:
    if values.ndim == 1:
        return [(name, values)]
    return [(f"{name}_{place}", column) for place, column in enumerate(values.T)]


def choose_writer(path: str) -> Callable[[PredictionTable], None]:
    """Return what writes a table to `path`, replacing a file that is there only when all of it is written.

    Raises ConfigError for a suffix of no known format and without the library for it, StorageError if nothing can be
    written there.
    """
    target = Path(path).expanduser()
    suffix = target.suffix.lower()
    write = WRITERS.get(suffix)
    if write is None:
        near = find_near(suffix, WRITERS)
        advice = f"did you mean '{target.with_suffix(near)}'?" if near else f"use {' or '.join(WRITERS)}"
        raise ConfigError(f"--out {path}: '{suffix}' is no known format; {advice}")
    if write is not _write_npz:
        need(f"writing {suffix}", "pyarrow")
    if target.is_dir():
        raise StorageError(f"cannot write '{path}': it is a folder; name a file in it")
    if not target.parent.is_dir():
        raise StorageError(f"cannot write '{path}': there is no folder '{target.parent}'; create it first")
    return lambda table: _write_aside(target, table, write)


def check_not_input(out: str, data: str) -> None:
    """Raise ConfigError where predictions would replace the data they are made from, however the two are spelled."""
    with suppress(OSError):  # one of them is not there
        if Path(out).expanduser().samefile(Path(data).expanduser()):
            raise ConfigError(f"--out {out} is the file that --data names; predictions would replace it, name another")


def _name_targets(schema: Schema) -> tuple[str, ...]:
    if schema.target_names is not None:
        return schema.target_names
    if schema.task == "classification" or schema.num_outputs == 1:
        return ("prediction",)
    return tuple(f"prediction_{number}" for number in range(schema.num_outputs))


def _write_aside(target: Path, table: PredictionTable, write: Callable[[Path, PredictionTable], None]) -> None:
    try:
        with replace_file(target) as aside:
            write(aside, table)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot write '{target}': {reason}; choose another place with --out") from error


def _write_csv(path: Path, table: PredictionTable) -> None:
    import pyarrow as pa
    from pyarrow import csv

    with path.open("wb") as file:  # pyarrow opens no name that is not UTF-8
        csv.write_csv(pa.table(table.flat()), file, csv.WriteOptions(quoting_style="needed"))


def _write_parquet(path: Path, table: PredictionTable) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with path.open("wb") as file:  # as above
        parquet.write_table(pa.table(table.flat()), file)


def _write_npz(path: Path, table: PredictionTable) -> None:
    # np.savez takes names as keywords, and a column may be called "file".
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, column in table.columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, column, allow_pickle=False)


WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".npz": _write_npz}
