"""From the table of a block to its examples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distbp.data.blocks.parts import Block, Contents
from distbp.data.raw import RawExamples, SourceKind
from distbp.data.tables import from_table
from distbp.data.weights import read_weight_column

if TYPE_CHECKING:
    import pyarrow as pa


def to_examples(kind: SourceKind, table: pa.Table, contents: Contents, block: Block) -> RawExamples:
    """Return the examples of a block, with their weights if there are some. Raises DataError, naming the row."""
    origin, first_row = f"'{contents.file(block).url}'", block.first_row or 0
    raw = from_table(kind, origin, table, contents.features, contents.targets, first_row)
    if contents.weight is None:
        return raw
    return replace(raw, weights=read_weight_column(table, contents.weight, origin, first_row))
