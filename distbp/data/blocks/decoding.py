"""Which format the blocks of a source have, told by the suffix of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from distbp.data.blocks.array_blocks import NpyBlocks, NpzBlocks
from distbp.data.blocks.csv_blocks import CsvBlocks
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.parquet_blocks import ParquetBlocks
from distbp.data.blocks.parts import Block, Contents, FileParts
from distbp.data.raw import RawExamples
from distbp.installation import need

if TYPE_CHECKING:
    import pyarrow as pa


class BlockFormat(Protocol):
    """What a format does: cut a file into blocks, and decode one."""

    def split(self, contents: Contents, number: int) -> FileParts:
        """Return what file `number` consists of."""
        ...

    def decode(self, contents: Contents, block: Block) -> RawExamples:
        """Return the examples of a block."""
        ...

    def read_table(self, contents: Contents, block: Block) -> pa.Table:
        """Return a block's features and targets as a table, in the types that they are stored in."""
        ...


class Decoder:
    """Splits the files of one source and decodes its blocks; threads may share it, and it can be sent away."""

    def __init__(self, contents: Contents, fetcher: Fetcher):
        self._contents = contents
        self._fetcher = fetcher
        self._format = _open_format(contents.listing.suffix, fetcher)

    def __reduce__(self) -> tuple[type[Decoder], tuple[Contents, Fetcher]]:
        return Decoder, (self._contents, self._fetcher)

    def split(self, number: int) -> FileParts:
        """Return what file `number` consists of."""
        return self._format.split(self._contents, number)

    def decode(self, block: Block) -> RawExamples:
        """Return the examples of a block."""
        return self._format.decode(self._contents, block)

    def read_table(self, block: Block) -> pa.Table:
        """Return a block's features and targets as a table, in the types that they are stored in."""
        return self._format.read_table(self._contents, block)


def _open_format(suffix: str, fetcher: Fetcher) -> BlockFormat:
    formats: dict[str, type[ParquetBlocks | CsvBlocks | NpzBlocks | NpyBlocks]] = {
        ".parquet": ParquetBlocks,
        ".csv": CsvBlocks,
        ".npz": NpzBlocks,
        ".npy": NpyBlocks,
    }
    if suffix in (".parquet", ".csv"):
        need(f"reading {suffix}", "pyarrow")
    return formats[suffix](fetcher)
