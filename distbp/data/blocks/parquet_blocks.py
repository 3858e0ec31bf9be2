"""Row groups of Parquet files: each is one range of bytes, decoded with the file's footer."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.files import DataFile
from distbp.data.blocks.parts import Block, Contents, FileParts
from distbp.data.blocks.rows import to_examples
from distbp.data.columns import PANDAS_INDEX
from distbp.data.raw import RawExamples
from distbp.data.reading import reading
from distbp.data.tables import check_filled
from distbp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"PAR1"
FRAME_BYTES = 8  # after the metadata: their length, and MAGIC
PARQUET = "a Parquet file"
TAIL_BYTES = 1 << 16  # read at once, in the hope that it holds the footer
NUM_FOOTERS = 64  # kept in memory
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile("0|-?[1-9][0-9]{0,17}")


class ParquetBlocks:
    """Splits and decodes Parquet files."""

    def __init__(self, fetcher: Fetcher):
        self._fetcher = fetcher
        self._footer = lru_cache(maxsize=NUM_FOOTERS)(self._read_footer)

    def split(self, contents: Contents, number: int) -> FileParts:
        """Return the row groups and columns of one file; row groups without rows are left out."""
        file = contents.listing.files[number]
        with reading(file.url, PARQUET):
            metadata = self._footer(file, 0)
            schema = metadata.schema.to_arrow_schema()
            columns = [(f.name, str(_plain(f.type))) for f in schema if not PANDAS_INDEX.fullmatch(f.name)]
            columns += [(name, type(value).__name__) for name, value in contents.partitions[number]]
            blocks, first_row = [], 0
            for group in range(metadata.num_row_groups):
                row_group = metadata.row_group(group)
                if row_group.num_rows:
                    blocks.append(Block(number, *_extent(row_group), group, row_group.num_rows, first_row))
                first_row += row_group.num_rows
        return FileParts(tuple(blocks), tuple(columns), metadata.serialized_size + FRAME_BYTES)

    def decode(self, contents: Contents, block: Block) -> RawExamples:
        """Return the examples of a row group."""
        return to_examples("parquet", self.read_table(contents, block), contents, block)

    def read_table(self, contents: Contents, block: Block) -> pa.Table:
        """Return the columns that are wanted of a row group."""
        import pyarrow as pa
        from pyarrow import parquet

        file = contents.file(block)
        added = dict(contents.partitions[block.file])
        names = [name for name in contents.wanted if name not in added]
        metadata = self._footer(file, contents.footers[block.file] if contents.footers else 0)
        start, stop = _extent_of(metadata, block, names)
        content = self._fetcher.fetch(file, start, stop)
        with reading(file.url, PARQUET):
            stream = pa.PythonFile(_Range(self._fetcher, file, start, content), "r")
            with parquet.ParquetFile(stream, metadata=metadata) as opened:
                table = opened.read_row_group(block.group, columns=names, use_threads=False)
            table.validate(full=True)
        for name, value in added.items():
            table = table.append_column(name, pa.array([value] * table.num_rows))
        for name in names:
            check_filled(table.column(name), name, f"'{file.url}'", block.first_row or 0)
        return table

    def _read_footer(self, file: DataFile, footer_bytes: int) -> Any:
        """Return a file's metadata. footer_bytes: how long the footer is; 0: nobody knows."""
        from pyarrow import parquet

        start = max(0, file.size - (footer_bytes or TAIL_BYTES))
        tail = self._fetcher.fetch(file, start, file.size)
        if len(tail) < 12 or tail[-4:] != MAGIC:
            raise DataError(
                f"'{file.url}' does not end as a Parquet file does; it is truncated or something else, write it again"
            )
        size = int.from_bytes(tail[-FRAME_BYTES:-4], "little") + FRAME_BYTES
        if size > file.size:
            raise DataError(f"'{file.url}' announces a footer of {size} bytes in {file.size}; write it again")
        footer = tail[-size:] if size <= len(tail) else self._fetcher.fetch(file, file.size - size, file.size)
        with reading(file.url, PARQUET):
            return parquet.read_metadata(io.BytesIO(MAGIC + footer))


def find_partitions(paths: Sequence[str]) -> tuple[tuple[tuple[str, str | int], ...], ...]:
    """Return for each path below the source the columns that its folders give, as `year=2024/month=5` does.

    Values are whole numbers where all of a column are, text otherwise.
    """
    found = [dict(_split_partition(part) for part in path.split("/")[:-1] if "=" in part) for path in paths]
    names = sorted({name for columns in found for name in columns})
    for path, columns in zip(paths, found, strict=True):
        missing = [name for name in names if columns.get(name, NULL_PARTITION) == NULL_PARTITION]
        if missing:
            raise DataError(f"the path '{path}' gives no value of {missing[0]!r}, as others do in {missing[0]}=...")
    numbers = {name for name in names if all(_WHOLE.fullmatch(columns[name]) for columns in found)}
    return tuple(
        tuple((name, int(value) if name in numbers else value) for name, value in sorted(columns.items()))
        for columns in found
    )


def _split_partition(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote(name), unquote(value)


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _extent_of(metadata: Any, block: Block, names: Sequence[str]) -> tuple[int, int]:
    """Return the bytes of a row group from the first to the last column that is wanted."""
    row_group = metadata.row_group(block.group)
    wanted = set(names)
    columns = [row_group.column(number) for number in range(row_group.num_columns)]
    return _span([column for column in columns if column.path_in_schema.split(".")[0] in wanted] or columns)


def _extent(row_group: Any) -> tuple[int, int]:
    return _span([row_group.column(number) for number in range(row_group.num_columns)])


def _span(columns: list[Any]) -> tuple[int, int]:
    starts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
    stops = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
    return min(starts), max(stops)


class _Range(io.RawIOBase):
    """A file of which one range is here; whatever else is asked for is fetched."""

    def __init__(self, fetcher: Fetcher, file: DataFile, start: int, content: bytes):
        self._fetcher, self._file = fetcher, file
        self._start, self._content = start, memoryview(content)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        self._place = base + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._file.size if size < 0 else min(self._place + size, self._file.size)
        start, self._place = self._place, max(stop, self._place)
        inside = start - self._start
        if inside >= 0 and stop - self._start <= len(self._content):
            return bytes(self._content[inside : stop - self._start])
        return self._fetcher.fetch(self._file, start, stop) if stop > start else b""
