"""IDX files, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist/), plain or gzipped.

A file starts with 0, 0, a code for the type and the number of dimensions, then each size as four bytes, big-endian.
"""

from __future__ import annotations

import gzip
import math
import re
from io import BufferedIOBase
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.data.raw import RawExamples, Wanted, pair_arrays
from distbp.data.reading import LARGEST_DEFLATE_RATIO, check_file, list_names, read_exactly, reading, to_path
from distbp.errors import DataError

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 8
FILE_NAME = re.compile(r"[.-]idx\d(-ubyte)?(\.gz)?$|\.idx(\.gz)?$", re.IGNORECASE)

Part = Literal["train", "t10k"]


def is_idx_name(name: str) -> bool:
    """Return whether a file of this name is an IDX file, such as train-images-idx3-ubyte.gz."""
    return FILE_NAME.search(name) is not None


def read_idx_folder(folder: Path, wanted: Wanted) -> RawExamples:
    """Return the examples of the train files, or when held-out data is wanted and there, of the t10k files."""
    if wanted.target is not None:
        raise DataError(f"target={wanted.target!r} names nothing in '{folder}'; an IDX folder has its own label files")
    part = _choose_part(folder, wanted.held_out)
    images, labels = _find(folder, part, "images"), _find(folder, part, "labels")
    if images is None or (labels is None and wanted.need_targets):
        missing = f"{part}-images-idx3-ubyte" if images is None else f"{part}-labels-idx1-ubyte"
        with reading(folder, "an IDX folder"):
            found = sorted(child.name for child in folder.iterdir())
        raise DataError(f"folder '{folder}' has no {missing} or {missing}.gz, it holds {list_names(found)}")
    return _pair(images, labels if wanted.need_targets else None)


def read_idx_file(path: Path, wanted: Wanted) -> RawExamples:
    """Return the images in `path` with the labels of the file that `wanted.target` names, or of its sibling.

    The sibling of `a-images-idx3-ubyte` is `a-labels-idx1-ubyte`.
    """
    return _pair(path, find_label_file(path, wanted.target) if wanted.need_targets else None)


def find_folder_files(folder: Path, held_out: bool) -> list[Path]:
    """Return the files of an IDX folder that are read, as far as they are there."""
    part = _choose_part(folder, held_out)
    return [path for path in (_find(folder, part, "images"), _find(folder, part, "labels")) if path is not None]


def has_held_out_files(folder: Path) -> bool:
    """Return whether an IDX folder has t10k images beside its training images."""
    return _find(folder, "t10k", "images") is not None


def has_training_files(folder: Path) -> bool:
    """Return whether a folder has the training images of an IDX data set."""
    return _find(folder, "train", "images") is not None


def read_idx(path: Path) -> NDArray:
    """Return the array in an IDX file, in native byte order; raises DataError for anything but a whole file."""
    check_file(path)
    is_packed = path.suffix.lower() == ".gz"
    file_bytes = path.stat().st_size
    with reading(path, "an IDX file"), gzip.open(path) if is_packed else path.open("rb") as stream:
        dtype, shape = _read_header(stream, path)
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes > file_bytes * (LARGEST_DEFLATE_RATIO if is_packed else 1):
            raise DataError(f"'{path}' announces {shape} values in {file_bytes} bytes; it is damaged, fetch it again")
        values = read_exactly(stream, num_bytes, f"'{path}'").view(dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: BufferedIOBase, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    found = magic.hex(" ") or "nothing"
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= MOST_DIMENSIONS:
        raise DataError(
            f"'{path}' starts with {found}; expected an IDX file, like 00 00 08 03 for bytes in 3 dimensions"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"'{path}' ends inside its header; it is incomplete, fetch it again")
    return np.dtype(DTYPES[magic[2]]), tuple(int(size) for size in np.frombuffer(sizes, ">u4"))


def _pair(images: Path, labels: Path | None) -> RawExamples:
    x = read_idx(images)
    if x.ndim == 1:
        raise DataError(f"'{images}' has shape {x.shape}, which is a label file; expected images, (N, rows, columns)")
    y = None if labels is None else read_idx(labels)
    if y is not None and y.ndim != 1:
        raise DataError(f"'{labels}' has shape {y.shape}, which is an image file; expected labels, (N,)")
    return pair_arrays("idx", f"'{images}'", x, y, f"'{labels}'")


def _choose_part(folder: Path, held_out: bool) -> Part:
    return "t10k" if held_out and has_held_out_files(folder) else "train"


def _find(folder: Path, part: Part, content: Literal["images", "labels"]) -> Path | None:
    dimensions = 3 if content == "images" else 1
    names = [f"{part}-{content}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    with reading(folder, "an IDX folder"):
        return next((folder / name for name in names if (folder / name).exists()), None)


def find_label_file(path: Path, target: str | tuple[str, ...] | None) -> Path:
    """Return the IDX file with the labels of `path`: the one named, else its sibling. Raises DataError for none."""
    if isinstance(target, tuple):
        raise DataError(f"target={list(target)!r} is a list; the labels of '{path}' are one IDX file, name that")
    if target is not None:
        return to_path(target)
    sibling = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if sibling == path:
        raise DataError(f"'{path}' has no label file; set target to the IDX file with its labels")
    return sibling
