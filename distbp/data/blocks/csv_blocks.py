"""CSV files in blocks of bytes that end at line ends.

A line break inside quotes is no line end, so the quotes before it have to be counted: a CSV file is read once
more than other files, to cut it. A quote inside a field must be doubled and the field quoted (RFC 4180).

A gzipped file cannot be read from its middle, so it is one block, which is unpacked whole.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.files import DataFile
from distbp.data.blocks.parts import Block, Contents, FileParts
from distbp.data.blocks.rows import to_examples
from distbp.data.dialect import HEAD_BYTES, Dialect, read_dialect
from distbp.data.raw import RawExamples
from distbp.data.reading import reading
from distbp.data.tables import CODE, check_filled
from distbp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 24
CSV = "a CSV file"
_LONE_RETURN = re.compile(rb"[\r\n]*[^\r\n]+\r(?!\n)")


class CsvBlocks:
    """Cuts and decodes CSV files. block_bytes: about how long a block is."""

    def __init__(self, fetcher: Fetcher, block_bytes: int = BLOCK_BYTES):
        self._fetcher = fetcher
        self._block_bytes = block_bytes
        self._header = lru_cache(maxsize=64)(self._read_header)

    def split(self, contents: Contents, number: int) -> FileParts:
        """Return blocks of whole lines, and the columns that the first line names."""
        file = contents.listing.files[number]
        dialect, start = self._header(file)
        names = [*dialect.names, *(name for name, _ in contents.partitions[number])]
        if _is_packed(file):
            cuts = [(0, 0), (file.size, 0)] if self._has_more(file, start) else []
        else:
            cuts = [(start, 0), *self._find_cuts(file, start)]
        blocks = [Block(number, begin, stop, first_row=row) for (begin, row), (stop, _) in pairwise(cuts)]
        return FileParts(tuple(blocks), tuple((name, "text") for name in names))

    def decode(self, contents: Contents, block: Block) -> RawExamples:
        """Return the examples of some lines."""
        return to_examples("csv", self.read_table(contents, block), contents, block)

    def read_table(self, contents: Contents, block: Block) -> pa.Table:
        """Return the columns that are wanted of some lines, in the types that these lines suggest."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        file = contents.file(block)
        added = dict(contents.partitions[block.file])
        dialect, header_bytes = self._header(file)
        wanted = [name for name in contents.wanted if name not in added]
        labels = contents.targets[0] if len(contents.targets) == 1 and contents.targets[0] not in added else None
        content = self._fetcher.fetch(file, block.start, block.stop)
        with reading(file.url, CSV):
            content = gzip.decompress(content)[header_bytes:] if _is_packed(file) else content
            table = arrow_csv.read_csv(
                pa.BufferReader(content),
                read_options=arrow_csv.ReadOptions(
                    column_names=dialect.names, block_size=len(content) + 1, use_threads=False
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=wanted, column_types={} if labels is None else {labels: pa.string()}
                ),
            )
            if labels is not None and not contents.text_targets:
                number = table.column_names.index(labels)
                table = table.set_column(number, labels, _read_labels(table.column(number)))
        for name, value in added.items():
            table = table.append_column(name, pa.array([value] * table.num_rows))
        for name in wanted:
            check_filled(table.column(name), name, f"'{file.url}'", block.first_row or 0)
        return table

    def _read_header(self, file: DataFile) -> tuple[Dialect, int]:
        """Return how a file is written, and where its second line begins."""
        head = self._fetcher.fetch(file, 0, min(file.size, HEAD_BYTES))
        if _is_packed(file):
            with reading(file.url, CSV):
                head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD_BYTES)
        dialect = read_dialect(head, f"'{file.url}'")
        if dialect.encoding != "utf-8":
            raise DataError(f"'{file.url}' is text in {dialect.encoding}, which cannot be cut; save it as UTF-8")
        if _LONE_RETURN.match(head):
            raise DataError(f"the lines of '{file.url}' end with carriage returns; save it with line feeds")
        ends = _line_ends(head, 0)
        if not dialect.names or dialect.names == ("",) or not len(ends):
            raise DataError(f"'{file.url}' has no first line with the names of its columns, or nothing after it")
        return dialect, int(ends[0])

    def _has_more(self, file: DataFile, header_bytes: int) -> bool:
        """Return whether anything follows the header of a gzipped file, be it in another of its members."""
        if file.size > HEAD_BYTES:
            return True
        content = self._fetcher.fetch(file, 0, file.size)
        with reading(file.url, CSV), gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return len(stream.read(header_bytes + 1)) > header_bytes

    def _find_cuts(self, file: DataFile, start: int) -> list[tuple[int, int]]:
        """Return where blocks end, after every `block_bytes` bytes and whole lines, and how many lines are before."""
        cuts: list[tuple[int, int]] = []
        num_quotes = num_lines = 0
        place, wanted = start, start + self._block_bytes
        while place < file.size:
            content = self._fetcher.fetch(file, place, min(place + self._block_bytes, file.size))
            ends = _line_ends(content, num_quotes)
            first = int(np.searchsorted(ends, max(0, wanted - place)))
            if first < len(ends):
                cuts.append((place + int(ends[first]), num_lines + first + 1))
                wanted = cuts[-1][0] + self._block_bytes
            num_quotes += content.count(b'"')
            num_lines += len(ends)
            place += len(content)
        return [cut for cut in cuts if cut[0] < file.size] + ([(file.size, num_lines)] if start < file.size else [])


def _is_packed(file: DataFile) -> bool:
    return file.name.lower().endswith(".gz")


def _line_ends(content: bytes, num_quotes: int) -> NDArray[np.int64]:
    """Return where lines begin: after each line break with an even number of quotes before it."""
    codes = np.frombuffer(content, np.uint8)
    breaks = np.flatnonzero(codes == ord("\n"))
    if b'"' in content:
        breaks = breaks[(num_quotes + np.searchsorted(np.flatnonzero(codes == ord('"')), breaks)) % 2 == 0]
    elif num_quotes % 2:
        breaks = breaks[:0]
    return breaks + 1


def _read_labels(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return cells as numbers or true and false where all are, as text otherwise; codes such as 01 stay text."""
    import pyarrow as pa
    from pyarrow import compute, csv

    if compute.any(compute.match_substring_regex(column, CODE)).as_py():
        return column
    cells = compute.utf8_trim_whitespace(column)
    is_empty = compute.is_in(column, pa.array(csv.ConvertOptions().null_values))
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        with suppress(pa.ArrowInvalid):
            return compute.if_else(is_empty, None, cells).cast(kind)
    return column
