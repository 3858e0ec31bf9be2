"""Writers of small data files of every supported kind, shared by the tests of distbp.data."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
NUM_EXAMPLES = 12


def idx_bytes(array: np.ndarray) -> bytes:
    code = IDX_CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_idx_folder(folder: Path, end: str = ".gz", num_held_out: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for part, num_examples in (("train", NUM_EXAMPLES), ("t10k", num_held_out)):
        if num_examples:
            write_idx(folder / f"{part}-images-idx3-ubyte{end}", pixels(num_examples))
            write_idx(folder / f"{part}-labels-idx1-ubyte{end}", labels(num_examples))
    return folder


def pixels(num_examples: int = NUM_EXAMPLES) -> np.ndarray:
    return np.random.default_rng(num_examples).integers(0, 256, (num_examples, 2, 3), np.uint8)


def labels(num_examples: int = NUM_EXAMPLES) -> np.ndarray:
    return (np.arange(num_examples) % 3).astype(np.uint8)


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def write_npy_pair(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder / "x.npy"


def write_csv(path: Path, columns: dict[str, list]) -> Path:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_parquet(path: Path, columns: dict[str, object]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def table_columns() -> dict[str, list]:
    numbers = np.random.default_rng(1)
    return {
        "width": numbers.normal(size=NUM_EXAMPLES).round(3).tolist(),
        "height": numbers.integers(-5, 300, NUM_EXAMPLES).tolist(),
        "label": [("rose", "daisy", "tulip")[i % 3] for i in range(NUM_EXAMPLES)],
    }


def write_source(kind: str, folder: Path) -> Path:
    """Write a valid source of NUM_EXAMPLES examples and return the path that `data.source` would name."""
    writers: dict[str, Callable[[], Path]] = {
        "idx": lambda: write_idx_folder(folder, end=""),
        "idx.gz": lambda: write_idx_folder(folder, end=".gz"),
        "npz": lambda: write_npz(folder / "data.npz", x=pixels().astype(np.float32), y=labels()),
        "npy": lambda: write_npy_pair(folder, pixels().astype(np.float64), np.array(["b", "a"] * (NUM_EXAMPLES // 2))),
        "csv": lambda: write_csv(folder / "data.csv", table_columns()),
        "parquet": lambda: write_parquet(folder / "data.parquet", table_columns()),
    }
    return writers[kind]()


KINDS = ("idx", "idx.gz", "npz", "npy", "csv", "parquet")
