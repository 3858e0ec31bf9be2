"""Data that memory cannot hold are refused before they are unpacked, and not called damaged."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest
from data_files import write_idx, write_npz, write_parquet

from distbp.config import Data
from distbp.data import prepare, reading
from distbp.data.reading import find_available_memory
from distbp.errors import DataError

ROWS = 200_000


def write_small_file_of_much(kind, folder):
    """Write a file of a few kilobytes that holds 1.6 MB."""
    x, y = np.zeros((ROWS, 8), np.uint8), np.arange(ROWS) % 2
    if kind == "npz":
        return write_npz(folder / "d.npz", x=x, y=y)
    if kind == "idx":
        write_idx(folder / "a-labels-idx1-ubyte.gz", y.astype(np.uint8))
        return write_idx(folder / "a-images-idx3-ubyte.gz", x.reshape(ROWS, 2, 4))
    if kind == "csv":
        path = folder / "d.csv.gz"
        path.write_bytes(gzip.compress(b"a,b,c,d,y\n" + b"0,0,0,0,1\n0,0,0,0,0\n" * (ROWS // 2)))
        return path
    columns = {**{f"c{i}": np.zeros(ROWS, np.int8) for i in range(8)}, "y": pa.array(y % 2)}
    return write_parquet(folder / "d.parquet", columns)


@pytest.mark.parametrize("kind", ["npz", "idx", "csv", "parquet"])
def test_a_small_file_that_becomes_large_is_refused_before_it_does(tmp_path, monkeypatch, kind):
    path = write_small_file_of_much(kind, tmp_path)
    assert path.stat().st_size < 1 << 20
    assert prepare(Data(source=str(path), columns=None), seed=0).schema.num_outputs == 2
    monkeypatch.setattr(reading, "find_available_memory", lambda: 1 << 20)
    with pytest.raises(DataError, match=r"needs 0\.00 GiB of memory, and 0\.00 GiB are free; use a machine with more"):
        prepare(Data(source=str(path)), seed=0)


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 1024 failed")])
def test_exhausted_memory_is_not_called_damage(tmp_path, error):
    with (
        pytest.raises(DataError, match="needs more memory than there is; use a machine with more"),
        reading.reading(tmp_path, "a Parquet file"),
    ):
        raise error


def test_free_memory_is_known_here_or_not_at_all():
    found = find_available_memory()
    assert found is None or found > 1 << 20
