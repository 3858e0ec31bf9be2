"""The examples of data in blocks as workers take them: by step and microbatch, or one after the other."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.blocks.decoding import Decoder
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.look import Look, Question, find_held_out
from distbp.data.blocks.order import BlockOrder, Lanes, Selection
from distbp.data.blocks.reader import BlockNeed, BlockReader, DecodedBlock
from distbp.data.scaling import ScalingKind
from distbp.data.schema import Schema
from distbp.data.targets import encode_targets
from distbp.errors import DataError
from distbp.protocol.examples import Scaling


@dataclass(frozen=True)
class BlockSource:
    """What a look found and how it is read: all that another process needs to read the same examples.

    schema: of the run that these are other data for; None where they are what it is trained on.
    """

    look: Look
    question: Question
    scaling_kind: ScalingKind
    schema: Schema | None = None

    @property
    def scaling(self) -> Scaling:
        """The map from raw features to inputs, measured on the rows that are trained on."""
        return self.look.statistics.to_scaling(self.scaling_kind) if self.schema is None else self.schema.scaling

    @property
    def row_bytes(self) -> int:
        """What a decoded row takes in memory."""
        num_targets = 1 if self.look.task == "classification" else self.look.num_outputs
        return int(np.prod(self.look.input_shape)) * np.dtype(self.look.dtype).itemsize + 8 * num_targets

    def rows_in_blocks(self, is_held_out: bool) -> NDArray[np.int64]:
        """Return how many rows of one part each block has, (K,)."""
        return np.array([f.num_held_out if is_held_out else f.num_training for f in self.look.blocks], np.int64)

    def open(self, is_held_out: bool, fetcher: Fetcher, memory_bytes: int) -> BlockReader:
        """Return a reader of the rows of one part."""
        decoder = Decoder(self.look.contents, fetcher)
        rows, row_bytes = self.rows_in_blocks(is_held_out), self.row_bytes
        return BlockReader(
            lambda block: self.decode(decoder, block, is_held_out),
            lambda block: int(rows[block]) * row_bytes,
            memory_bytes,
        )

    def read(self, number: int, is_held_out: bool, fetcher: Fetcher) -> DecodedBlock:
        """Return the rows of one part of a block."""
        return self.decode(Decoder(self.look.contents, fetcher), number, is_held_out)

    def decode(self, decoder: Decoder, number: int, is_held_out: bool) -> DecodedBlock:
        """Return the rows of one part of a block. Raises DataError if it is not what the look found."""
        facts = self.look.blocks[number]
        raw = decoder.decode(facts.block)
        if len(raw.x) != facts.num_rows:
            raise DataError(
                f"{raw.origin} gave {len(raw.x)} rows where the first look at the data found {facts.num_rows}; "
                "bring the old file back, or start a new run"
            )
        held = find_held_out(number, len(raw.x), self.question.held_out, self.question.seed)
        rows = np.flatnonzero(held == is_held_out)
        y = encode_targets(raw, self.look.spec)
        return DecodedBlock(raw.x[rows].astype(self.look.dtype, copy=False), y[rows])


class TrainingBlocks:
    """The training examples of a source, in the order of its lanes. Threads may share it.

    memory_bytes: for decoded blocks. Steps count over the whole run.
    """

    def __init__(self, source: BlockSource, order: BlockOrder, dtype: DTypeLike, fetcher: Fetcher, memory_bytes: int):
        self.order = order
        self.reader = source.open(False, fetcher, memory_bytes)
        self._dtype = dtype
        self._scaling = source.scaling.cast(dtype, np.dtype(source.look.dtype))
        self._empty = _make_empty(source.look)

    def __len__(self) -> int:
        return self.order.lanes.num_examples

    def expect(self, lanes: Iterable[int], step: int, num_steps: int) -> None:
        """Read ahead for some lanes, from `step` to the end of the run at `num_steps`."""
        self.reader.expect(_iterate_needs(self.order, tuple(lanes), step, num_steps), step)

    def take(self, step: int, microbatch: int) -> tuple[NDArray, NDArray]:
        """Return the inputs (b, I) and the targets (b,) int64 or (b, O) of one microbatch; b may be 0."""
        x, y = _gather(self.reader, self.order.select(step, microbatch), step, self._empty)
        return self._scaling.apply(x, self._dtype), y if y.ndim == 1 else y.astype(self._dtype)

    def close(self) -> None:
        """End the thread that reads ahead."""
        self.reader.close()


class HeldOutBlocks:
    """The held-out examples of a source in the order of its blocks, read front to back. Threads may share it."""

    def __init__(
        self, source: BlockSource, dtype: DTypeLike, fetcher: Fetcher, memory_bytes: int, is_held_out: bool = True
    ):
        """is_held_out: which part; False where the whole source is other data."""
        self.reader = source.open(is_held_out, fetcher, memory_bytes)
        self._starts = np.concatenate([[0], np.cumsum(source.rows_in_blocks(is_held_out))])
        self._dtype = dtype
        self._scaling = source.scaling.cast(dtype, np.dtype(source.look.dtype))
        self._empty = _make_empty(source.look)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def expect(self, start: int, stop: int) -> None:
        """Read ahead for the examples [start, stop)."""
        bounds = enumerate(pairwise(self._starts.tolist()))
        needs = (BlockNeed(block, low, high) for block, (low, high) in bounds if max(low, start) < min(high, stop))
        self.reader.expect(needs, start)

    def take(self, start: int, stop: int) -> tuple[NDArray, NDArray]:
        """Return the inputs and targets of the examples [start, stop)."""
        positions = np.arange(start, min(stop, len(self)))
        blocks = np.searchsorted(self._starts, positions, side="right") - 1
        x, y = _gather(self.reader, Selection(blocks, positions - self._starts[blocks]), start, self._empty)
        return self._scaling.apply(x, self._dtype), y if y.ndim == 1 else y.astype(self._dtype)

    def close(self) -> None:
        """End the thread that reads ahead."""
        self.reader.close()


def make_order(source: BlockSource, batch_size: int, microbatch_size: int, window_blocks: int, seed: int) -> BlockOrder:
    """Return the order of a source's training examples."""
    rows = source.rows_in_blocks(False)
    return BlockOrder(rows, Lanes(int(rows.sum()), batch_size, microbatch_size), window_blocks, seed)


def _iterate_needs(order: BlockOrder, lanes: Sequence[int], step: int, num_steps: int) -> Iterator[BlockNeed]:
    while step < num_steps:
        needs = heapq.merge(*(order.needs(lane, step) for lane in lanes), key=lambda need: need.first_step)
        for need in needs:
            yield from (BlockNeed(block, need.first_step, need.stop_step) for block in need.blocks)
        step = (step // order.lanes.num_steps + 1) * order.lanes.num_steps


def _make_empty(look: Look) -> DecodedBlock:
    num_inputs = int(np.prod(look.input_shape))
    is_classes = look.task == "classification"
    y = np.empty(0, np.int64) if is_classes else np.empty((0, look.num_outputs))
    return DecodedBlock(np.empty((0, num_inputs), look.dtype), y)


def _gather(reader: BlockReader, chosen: Selection, step: int, empty: DecodedBlock) -> tuple[NDArray, NDArray]:
    """Return the rows that are chosen, one block after the other: equal block numbers stand together."""
    count = len(chosen.rows)
    x = np.empty((count, *empty.x.shape[1:]), empty.x.dtype)
    y = np.empty((count, *empty.y.shape[1:]), empty.y.dtype)
    cuts = [0, *(np.flatnonzero(np.diff(chosen.blocks)) + 1).tolist(), count]
    for start, stop in pairwise(cuts):
        if start < stop:
            block = reader.get(int(chosen.blocks[start]), step)
            rows = chosen.rows[start:stop]  # they are inside; "clip" only spares a copy
            block.x.take(rows, axis=0, out=x[start:stop], mode="clip")
            block.y.take(rows, axis=0, out=y[start:stop], mode="clip")
    return x, y
