"""NumPy's files: `.npz` archives with x and y, and `.npy` pairs, which stay on disk and are memory-mapped.

Headers are checked against the file's size before anything is allocated. Pickled objects are never loaded.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from distbp.data.raw import RawExamples, Wanted, pair_arrays
from distbp.data.reading import LARGEST_DEFLATE_RATIO, check_file, list_names, read_exactly, reading, to_path
from distbp.errors import DataError

NPZ = "an .npz archive of arrays"
NPY = "an .npy array"


def read_npz(path: Path, wanted: Wanted) -> RawExamples:
    """Return the arrays `x` and `y` of an archive that np.savez or np.savez_compressed wrote.

    An archive with x_train and y_train gives those, or when held-out data is wanted and there, x_test and y_test.
    """
    if wanted.target is not None:
        raise DataError(f"target={wanted.target!r} names nothing in '{path}'; an .npz holds x and y, leave target out")
    check_file(path)
    with reading(path, NPZ), path.open("rb") as stream:
        return decode_npz(stream, path, wanted)


def decode_npz(stream: BinaryIO, path: Path | str, wanted: Wanted) -> RawExamples:
    """Return the arrays of an archive in `stream`, which messages call `path`."""
    with reading(path, NPZ), zipfile.ZipFile(stream) as archive:
        end = _choose_part(archive, wanted)
        x = _read_member(archive, f"x{end}", path)
        y = _read_member(archive, f"y{end}", path) if wanted.need_targets else None
    return pair_arrays("npz", f"'{path}'", x, y, f"'{path}'")


def decode_npy(content: bytes, path: Path | str) -> NDArray:
    """Return the array in the content of an .npy file, text as an object array of str."""
    with reading(path, NPY):
        stream = BytesIO(content)
        header = _read_header(stream, f"'{path}'")
        _check_size(header, len(content) - stream.tell(), f"'{path}'")
        values = np.frombuffer(content, header.dtype, offset=stream.tell())
        return _own_text(values.reshape(header.shape, order="F" if header.is_fortran else "C"), path)


def has_held_out_arrays(path: Path) -> bool:
    """Return whether a file is an archive with arrays for training and others for testing."""
    if path.suffix.lower() != ".npz":
        return False
    with reading(path, NPZ), zipfile.ZipFile(path) as archive:
        return _choose_part(archive, Wanted(held_out=True)) == "_test"


def _choose_part(archive: zipfile.ZipFile, wanted: Wanted) -> str:
    """Return what the names of the wanted arrays end in: nothing, _train or _test."""
    names = set(_list_arrays(archive))
    if "x" in names or "x_train" not in names:
        return ""
    return "_test" if wanted.held_out and "x_test" in names else "_train"


def _list_arrays(archive: zipfile.ZipFile) -> list[str]:
    return [member.removesuffix(".npy") for member in archive.namelist()]


def read_npy_pair(path: Path, wanted: Wanted) -> RawExamples:
    """Return x of `path`, memory-mapped, with y of the file that `wanted.target` names, or of the sibling of `path`.

    The sibling of `x.npy` is `y.npy`, that of `train_x.npy` is `train_y.npy`.
    """
    x = map_npy(path)
    if not wanted.need_targets:
        return pair_arrays("npy", f"'{path}'", x, None)
    target_path = find_target_file(path, wanted.target)
    y = _own_text(np.asarray(map_npy(target_path)), target_path)
    return pair_arrays("npy", f"'{path}'", x, y, f"'{target_path}'")


def map_npy(path: Path) -> np.memmap:
    """Return the array in an .npy file as a read-only memory map, of which nothing is read yet."""
    check_file(path)
    with reading(path, NPY):
        with path.open("rb") as stream:
            header = _read_header(stream, f"'{path}'")
            offset = stream.tell()
        found = path.stat().st_size - offset
        _check_size(header, found, f"'{path}'")
        return np.memmap(path, header.dtype, "r", offset, header.shape, "F" if header.is_fortran else "C")


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _read_header(stream: BufferedIOBase, origin: str) -> _Header:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        header = _Header(*np.lib.format.read_array_header_1_0(stream))
    elif version == (2, 0):
        header = _Header(*np.lib.format.read_array_header_2_0(stream))
    else:
        raise DataError(f"{origin} has .npy version {version}; expected (1, 0) or (2, 0), an array of plain numbers")
    if header.dtype.hasobject:
        raise DataError(f"{origin} holds pickled Python objects, which are never loaded; save numbers or str")
    if any(size < 0 for size in header.shape):
        raise DataError(f"{origin} announces the shape {header.shape}; sizes must not be negative")
    return header


def _check_size(header: _Header, found_bytes: int, origin: str) -> None:
    if header.num_bytes != found_bytes:
        raise DataError(
            f"{origin} announces an array of shape {header.shape} and dtype {header.dtype}, {header.num_bytes} bytes, "
            f"but holds {found_bytes}; it is damaged or incomplete, write it again"
        )
    if found_bytes == 0:
        raise DataError(f"{origin} is an array without values, its shape is {header.shape}; expected examples")


def _read_member(archive: zipfile.ZipFile, name: str, path: Path | str) -> NDArray:
    members = _list_arrays(archive)
    if name not in members:
        raise DataError(
            f"'{path}' has no array {name}, it holds {list_names(members)}; expected x and y, or x_train and y_train"
        )
    origin = f"array {name} of '{path}'"
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > (info.compress_size + 1) * LARGEST_DEFLATE_RATIO:
        raise DataError(f"{origin} claims {info.file_size} bytes in {info.compress_size} packed ones; write it again")
    with archive.open(info) as stream:
        header = _read_header(stream, origin)  # type: ignore[arg-type]  # IO[bytes] is what NumPy needs
        _check_size(header, info.file_size - stream.tell(), origin)
        values = read_exactly(stream, header.num_bytes, origin).view(header.dtype)  # type: ignore[arg-type]  # the same
    return _own_text(values.reshape(header.shape, order="F" if header.is_fortran else "C"), path)


def _own_text(array: NDArray, path: Path | str) -> NDArray:
    """Return text as an object array of str, anything else as it is."""
    with reading(path, "an array of valid text"):
        return array.astype(object) if array.dtype.kind == "U" else array


def find_target_file(path: Path, target: str | tuple[str, ...] | None) -> Path:
    """Return the .npy file with the targets of `path`: the one named, else its sibling. Raises DataError for none."""
    if isinstance(target, tuple):
        raise DataError(f"target={list(target)!r} is a list; the targets of '{path}' are one .npy file, name that")
    if target is not None:
        return to_path(target)
    if path.stem == "x" or path.stem.endswith("_x"):
        return path.with_name(f"{path.stem[:-1]}y{path.suffix}")
    raise DataError(f"'{path}' has no target file; set target to the .npy file with its targets")
