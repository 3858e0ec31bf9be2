"""What a file of a source consists of: blocks, the units of reading, and columns."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.data.blocks.files import DataFile, Listing


@dataclass(frozen=True)
class Block:
    """The bytes [start, stop) of a file that are read together: a Parquet row group, a shard, or lines of a CSV file.

    group: number of the row group, 0 otherwise. num_rows, first_row: None until they are counted.
    """

    file: int
    start: int
    stop: int
    group: int = 0
    num_rows: int | None = None
    first_row: int | None = None


@dataclass(frozen=True)
class FileParts:
    """The blocks of one file in order. columns: name and type of each; () for arrays.

    footer_bytes: at the end of a Parquet file, which tell where its row groups are; 0 otherwise.
    """

    blocks: tuple[Block, ...]
    columns: tuple[tuple[str, str], ...] = ()
    footer_bytes: int = 0


@dataclass(frozen=True)
class Contents:
    """All that decoding a block needs besides its bytes.

    features, targets: the columns to read; () for arrays. partitions: for each file, the columns that its path
    gives (`year=2024`). text_targets: the targets of a CSV file are text. has_targets: archives of arrays have some.
    weight: the column with what each example counts. footers: the bytes of each file's footer; () until they are known.
    """

    listing: Listing
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    partitions: tuple[tuple[tuple[str, str | int], ...], ...] = ()
    text_targets: bool = False
    has_targets: bool = True
    footers: tuple[int, ...] = ()
    weight: str | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.features, *self.targets, *(() if self.weight is None else (self.weight,)))

    def file(self, block: Block) -> DataFile:
        """Return the file that a block belongs to."""
        return self.listing.files[block.file]
