"""Writes any source as Parquet files in blocks of a good size, its rows shuffled across all blocks once.

The shuffle is a keyed permutation of all rows in bounded memory: the rows of each block are dealt to temporary
files, one for each file that will be written, and each of these is then brought into order. So every byte is read
once, and written twice.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fsspec.core import url_to_fs

from distbp.data.blocks.decoding import Decoder
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.files import explain_failure
from distbp.data.blocks.look import Look
from distbp.data.blocks.permutation import BlockPurpose, KeyedPermutation, make_keys
from distbp.data.columns import TARGET_NAMES
from distbp.data.targets import Task
from distbp.errors import DataError, DistbpError, StorageError
from distbp.installation import need

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 25  # of decoded values
FEWEST_BLOCKS = 64
FEWEST_ROWS = 256  # of a block, where there are so many
BLOCKS_PER_FILE = 8
MOST_FILES = 512  # above, files grow and with them the memory that packing takes
POSITION = "__distbp_position__"


@dataclass(frozen=True)
class Packed:
    """What was written. targets: the columns that the targets are in, such as y0, y1, ... of arrays."""

    files: int
    blocks: int
    rows: int
    rows_per_block: int
    targets: tuple[str, ...]
    task: Task

    @property
    def has_plain_target(self) -> bool:
        """Whether the target is found without being named."""
        return len(self.targets) == 1 and self.targets[0] in TARGET_NAMES


def pack(look: Look, out: str, seed: int = 0, on_progress: Callable[[int, int], None] = lambda _, __: None) -> Packed:
    """Write what `look` found to the folder `out`, a path or URL, which must be empty; equal seeds give equal files.

    Raises DataError for whatever is wrong with the source, StorageError for `out`, ConfigError without pyarrow.
    """
    need("packing data", "pyarrow")
    rows_per_block = choose_block_rows(look)
    num_files = min(MOST_FILES, -(-look.num_rows // (rows_per_block * BLOCKS_PER_FILE)))
    rows_per_file = -(-look.num_rows // (num_files * rows_per_block)) * rows_per_block
    num_files = -(-look.num_rows // rows_per_file)
    total = len(look.blocks) + num_files
    filesystem, folder = _open_empty(out)
    with _temporary_folder(filesystem, folder, out) as temporary:
        schema = _deal(look, seed, rows_per_file, temporary, lambda done: on_progress(done, total))
        for number in range(num_files):
            table = _put_in_order(temporary / str(number), schema)
            _write(filesystem, f"{folder}/part-{number:05}.parquet", table, rows_per_block)
            on_progress(len(look.blocks) + number + 1, total)
    targets = look.contents.targets or tuple(name for name in schema.names if name.startswith("y"))  # of arrays
    num_blocks = -(-look.num_rows // rows_per_block)
    return Packed(num_files, num_blocks, look.num_rows, rows_per_block, targets, look.task)


def choose_block_rows(look: Look) -> int:
    """Return how many rows make a good block: 32 MB of values, fewer where that would make fewer than 64 blocks."""
    num_targets = math.prod(look.target_shape) if look.task == "classification" else look.num_outputs
    row_bytes = int(np.prod(look.input_shape)) * np.dtype(look.dtype).itemsize + 8 * num_targets
    for_mixing = max(FEWEST_ROWS, -(-look.num_rows // FEWEST_BLOCKS))
    return max(1, min(BLOCK_BYTES // row_bytes, for_mixing))


def _deal(look: Look, seed: int, rows_per_file: int, temporary: Path, on_progress: Callable[[int], None]) -> pa.Schema:
    """Append every row, with its new position, to the temporary file it belongs to; return the schema of all."""
    import pyarrow as pa

    decoder = Decoder(look.contents, Fetcher())
    permutation = KeyedPermutation(look.num_rows, make_keys(seed, BlockPurpose.PACK))
    first, schema = 0, None
    for number, facts in enumerate(look.blocks):
        table = decoder.read_table(facts.block)
        if table.num_rows != facts.num_rows:
            raise DataError(f"'{look.contents.file(facts.block).url}' has changed since the first look at the data")
        positions = permutation(np.arange(first, first + table.num_rows))
        table = table.append_column(POSITION, pa.array(positions))
        schema = (
            table.schema if schema is None else pa.unify_schemas([schema, table.schema], promote_options="permissive")
        )
        files = positions // rows_per_file
        order = np.argsort(files, kind="stable")
        numbers, starts = np.unique(files[order], return_index=True)
        table = table.take(pa.array(order))
        for file, start, stop in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
            _append(temporary / str(file), table.slice(start, stop - start))
        first += table.num_rows
        on_progress(number + 1)
    return schema


def _append(path: Path, table: pa.Table) -> None:
    import pyarrow as pa

    with _writing(str(path)), path.open("ab") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)


def _put_in_order(path: Path, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    tables = []
    with _writing(str(path)), path.open("rb") as stream:
        while stream.read(1):
            stream.seek(-1, 1)
            with pa.ipc.open_stream(stream) as reader:
                tables.append(reader.read_all().cast(_order_as(schema, reader.schema)))
    path.unlink()
    table = pa.concat_tables(tables)
    order = np.argsort(table.column(POSITION).to_numpy())
    return table.take(pa.array(order)).drop_columns([POSITION]).combine_chunks()


def _order_as(schema: pa.Schema, found: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in found.names])


def _write(filesystem: Any, path: str, table: pa.Table, rows_per_block: int) -> None:
    from pyarrow import parquet

    with _writing(path), filesystem.open(path, "wb") as stream:
        parquet.write_table(table, stream, row_group_size=rows_per_block)


def _open_empty(out: str) -> tuple[Any, str]:
    with _writing(out):
        filesystem, folder = url_to_fs(out if "://" in out else str(Path(out).expanduser()))
        if filesystem.exists(folder) and (filesystem.isfile(folder) or filesystem.ls(folder, detail=False)):
            raise StorageError(f"'{out}' is not empty; choose a new folder, so that no old file is mixed with new ones")
        filesystem.makedirs(folder, exist_ok=True)
    return filesystem, folder.rstrip("/")


@contextmanager
def _temporary_folder(filesystem: Any, folder: str, out: str) -> Iterator[Path]:
    """Yield a folder for the rows under way, beside what is written where that is a disk; afterwards it is gone.

    When packing fails, what it wrote is removed too: half of the data must not look like all of it.
    """
    is_disk = "://" not in out or out.startswith("file://")
    with _writing(out):
        temporary = tempfile.TemporaryDirectory(prefix=".pack-", dir=folder if is_disk else None)
    with temporary as name:
        try:
            yield Path(name)
        except BaseException:
            for path in filesystem.glob(f"{folder}/part-*.parquet"):
                filesystem.rm_file(path)
            raise


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except DistbpError:
        raise
    except Exception as error:  # storage packages raise exceptions of all kinds
        raise StorageError(f"cannot write '{url}': {explain_failure(error, url)}") from error
