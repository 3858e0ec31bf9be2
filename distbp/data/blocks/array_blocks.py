"""Shards of arrays: each `.npz` archive, or each pair of `.npy` files, is one block."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from distbp.data.arrays import decode_npy, decode_npz
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.files import DataFile
from distbp.data.blocks.parts import Block, Contents, FileParts
from distbp.data.raw import RawExamples, Wanted, pair_arrays
from distbp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class NpzBlocks:
    """Decodes .npz archives that hold x and y."""

    def __init__(self, fetcher: Fetcher):
        self._fetcher = fetcher

    def split(self, contents: Contents, number: int) -> FileParts:
        """Return the archive as one block."""
        return FileParts((Block(number, 0, contents.listing.files[number].size),))

    def decode(self, contents: Contents, block: Block) -> RawExamples:
        """Return the examples of an archive."""
        file = contents.file(block)
        return decode_npz(
            io.BytesIO(self._fetcher.fetch(file, 0, file.size)), file.url, Wanted(need_targets=contents.has_targets)
        )

    def read_table(self, contents: Contents, block: Block) -> pa.Table:
        """Return the examples of an archive as a table."""
        return _to_table(self.decode(contents, block))


class NpyBlocks:
    """Decodes pairs of .npy files: `x.npy` with `y.npy`, `part-3_x.npy` with `part-3_y.npy`."""

    def __init__(self, fetcher: Fetcher):
        self._fetcher = fetcher

    def split(self, contents: Contents, number: int) -> FileParts:
        """Return a file of inputs as one block; a file of targets has none of its own."""
        file = contents.listing.files[number]
        if _ends_as(file, "y"):
            return FileParts(())
        if contents.has_targets:
            _find_targets(contents, file)
        return FileParts((Block(number, 0, file.size),))

    def decode(self, contents: Contents, block: Block) -> RawExamples:
        """Return the examples of a pair."""
        file = contents.file(block)
        if not contents.has_targets:
            x = decode_npy(self._fetcher.fetch(file, 0, file.size), file.url)
            return pair_arrays("npy", f"'{file.url}'", x, None)
        targets = _find_targets(contents, file)
        x, y = (decode_npy(self._fetcher.fetch(part, 0, part.size), part.url) for part in (file, targets))
        return pair_arrays("npy", f"'{file.url}'", x, y, f"'{targets.url}'")

    def read_table(self, contents: Contents, block: Block) -> pa.Table:
        """Return the examples of a pair as a table."""
        return _to_table(self.decode(contents, block))


def _ends_as(file: DataFile, letter: str) -> bool:
    stem = file.name.rpartition("/")[2].removesuffix(".npy")
    return stem == letter or stem.endswith(f"_{letter}")


def _find_targets(contents: Contents, file: DataFile) -> DataFile:
    name = file.name.removesuffix("x.npy") + "y.npy"
    found = next((other for other in contents.listing.files if other.name == name), None)
    if not _ends_as(file, "x") or found is None:
        raise DataError(f"'{file.url}' has no targets; expected pairs such as part-1_x.npy and part-1_y.npy")
    return found


def _to_table(raw: RawExamples) -> pa.Table:
    """Return inputs as the columns x0, x1, ... and targets as y, or y0, y1, ..."""
    import pyarrow as pa

    assert raw.y is not None  # shards are read with their targets
    columns = {f"x{number}": pa.array(column) for number, column in enumerate(raw.x.T)}
    if raw.y.ndim == 1:
        return pa.table({**columns, "y": pa.array(raw.y)})
    return pa.table({**columns, **{f"y{number}": pa.array(column) for number, column in enumerate(raw.y.T)}})
