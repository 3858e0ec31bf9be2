"""A run on blocks and a single file as its other data: the file's weights count as a folder's do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from distbp.config import Data
from distbp.data import prepare, read_examples
from distbp.errors import DataError

NUM_ROWS = 24


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))


def write(path: Path, names: str, **changed: np.ndarray) -> str:
    path.parent.mkdir(exist_ok=True)
    columns = {
        "a": np.arange(NUM_ROWS) / 4,
        "b": np.arange(NUM_ROWS) % 5,
        "y": np.arange(NUM_ROWS) % 2,
        "w": np.arange(NUM_ROWS) / 2,
        **changed,
    }
    table = pa.table({name: columns[name] for name in names})
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
    return str(path)


def train_with(tmp_path: Path, validation: str):
    source = Path(write(tmp_path / "train" / "t.parquet", "abyw")).parent
    return prepare(Data(source=str(source), target="y", weight="w", validation=validation), 0)


@pytest.mark.parametrize("name", ["v.csv", "v.parquet"])
def test_weights_of_a_single_file_are_those_of_its_folder(tmp_path, name):
    path = Path(write(tmp_path / "other" / name, "abyw"))
    for source in (path, path.parent):
        found = train_with(tmp_path, str(source))
        again = read_examples(found.schema, str(source), "y")
        for examples in (found.validation, again):
            held = examples if source == path else examples.hold()
            assert held.weights.tolist() == (np.arange(NUM_ROWS) / 2).tolist()


def test_a_single_file_without_the_weights_counts_every_example_the_same(tmp_path):
    assert train_with(tmp_path, write(tmp_path / "v.csv", "aby")).validation.weights is None


def test_features_alone_need_no_weights(tmp_path):
    schema = train_with(tmp_path, write(tmp_path / "v.csv", "aby")).schema
    found = read_examples(schema, write(tmp_path / "f.csv", "abw", w=np.full(NUM_ROWS, -1.0)), need_targets=False)
    assert found.weights is None


def test_a_bad_weight_of_a_single_file_is_named_with_its_row(tmp_path):
    wrong = write(tmp_path / "v.csv", "abyw", w=np.where(np.arange(NUM_ROWS) == 6, -1.0, 1.0))
    with pytest.raises(DataError, match=r"'w' of '.*v\.csv' is -1 in data row 7"):
        train_with(tmp_path, wrong)
