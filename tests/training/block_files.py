"""Small sources in blocks of every kind, all with the same examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

SIZES = (57, 130, 91, 43, 79)
KINDS = ("parquet", "npz", "npy", "csv")
NUM_FEATURES = 4


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """400 examples of three noisy classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, sum(SIZES))
    x = np.random.default_rng(7).standard_normal((3, NUM_FEATURES))[y] + rng.standard_normal((len(y), NUM_FEATURES))
    return x.astype(np.float32), y


def write_blocks(folder: Path, kind: str = "parquet", seed: int = 0) -> Path:
    """Write the examples as files of uneven sizes; Parquet files have row groups of up to 40."""
    folder.mkdir(parents=True)
    x, y = draw(seed)
    start = 0
    for number, size in enumerate(SIZES):
        part = slice(start, start + size)
        write_file(folder, f"part-{number}", kind, x[part], y[part])
        start += size
    return folder


def write_file(folder: Path, name: str, kind: str, x: np.ndarray, y: np.ndarray) -> None:
    if kind == "npz":
        np.savez(folder / f"{name}.npz", x=x, y=y)
    elif kind == "npy":
        np.save(folder / f"{name}_x.npy", x)
        np.save(folder / f"{name}_y.npy", y)
    else:
        table = pa.table({**{f"f{n}": column for n, column in enumerate(x.T)}, "y": y})
        if kind == "csv":
            csv.write_csv(table, folder / f"{name}.csv")
        else:
            parquet.write_table(table, folder / f"{name}.parquet", row_group_size=40)
