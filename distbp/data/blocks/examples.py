"""The examples of data in blocks as workers take them: by step and microbatch, or one after the other."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
from distbp.protocol.supply import Batch


@dataclass(frozen=True)
class BlockSource:
    """What a look found and how it is read: all that another process needs to read the same examples.

    schema: of the run that these are other data for; None where they are what it is trained on.
    targets: the scaling of targets that are numbers, (O,), or none. class_weights: (K,) what an example of each class
    counts where it is trained on; None: all the same.
    """

    look: Look
    question: Question
    scaling_kind: ScalingKind
    schema: Schema | None = None
    targets: Scaling = field(default_factory=Scaling)
    class_weights: tuple[float, ...] | None = None

    @property
    def scaling(self) -> Scaling:
        """The map from raw features to inputs, measured on the rows that are trained on."""
        return self.look.statistics.to_scaling(self.scaling_kind) if self.schema is None else self.schema.scaling

    @property
    def row_bytes(self) -> int:
        """What a decoded row takes in memory."""
        num_targets = math.prod(_target_shape(self.look)) + (self.look.contents.weight is not None)
        return int(np.prod(self.look.input_shape)) * np.dtype(self.look.dtype).itemsize + 8 * num_targets

    def weigh(self, block: DecodedBlock, is_trained: bool) -> NDArray[np.float64] | None:
        """Return what each example of a block counts, (n,); None where all count the same."""
        if self.class_weights is None or not is_trained:
            return block.weights
        by_class: NDArray[np.float64] = np.array(self.class_weights)[block.y]
        return by_class if block.weights is None else block.weights * by_class

    def finish(self, found: DecodedBlock, scaling: Scaling, dtype: DTypeLike, is_trained: bool) -> Batch:
        """Return inputs, targets and weights as a model takes them. scaling: `self.scaling`, cast to `dtype`."""
        y, weights = found.y, self.weigh(found, is_trained)
        if self.targets.shift is not None and self.targets.scale is not None:
            y = (y - self.targets.shift) * self.targets.scale
        batch = scaling.apply(found.x, dtype), y if y.ndim == 1 else y.astype(dtype)
        return batch if weights is None else (*batch, weights)

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
        weights = None if raw.weights is None else raw.weights[rows]
        return DecodedBlock(raw.x[rows].astype(self.look.dtype, copy=False), y[rows], weights)


class TrainingBlocks:
    """The training examples of a source, in the order of its lanes. Threads may share it.

    memory_bytes: for decoded blocks. Steps count over the whole run.
    """

    def __init__(self, source: BlockSource, order: BlockOrder, dtype: DTypeLike, fetcher: Fetcher, memory_bytes: int):
        self.order = order
        self.reader = source.open(False, fetcher, memory_bytes)
        self._source = source
        self._dtype = dtype
        self._scaling = source.scaling.cast(dtype, np.dtype(source.look.dtype))
        self._empty = _make_empty(source.look)

    def __len__(self) -> int:
        return self.order.lanes.num_examples

    def expect(self, lanes: Iterable[int], step: int, num_steps: int) -> None:
        """Read ahead for some lanes, from `step` to the end of the run at `num_steps`."""
        self.reader.expect(_iterate_needs(self.order, tuple(lanes), step, num_steps), step)

    def take(self, step: int, microbatch: int) -> Batch:
        """Return the inputs (b, I), targets (b,) int64 or (b, O), and weights if any, of a microbatch; b may be 0."""
        found = _gather(self.reader, self.order.select(step, microbatch), step, self._empty)
        return self._source.finish(found, self._scaling, self._dtype, is_trained=True)

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
        self._source = source
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

    def take(self, start: int, stop: int) -> Batch:
        """Return the inputs, targets, and weights if any, of the examples [start, stop)."""
        positions = np.arange(start, min(stop, len(self)))
        blocks = np.searchsorted(self._starts, positions, side="right") - 1
        found = _gather(self.reader, Selection(blocks, positions - self._starts[blocks]), start, self._empty)
        return self._source.finish(found, self._scaling, self._dtype, is_trained=False)

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
    y = np.empty((0, *_target_shape(look)), np.int64 if look.task == "classification" else np.float64)
    weights = None if look.contents.weight is None else np.empty(0)
    return DecodedBlock(np.empty((0, num_inputs), look.dtype), y, weights)


def _target_shape(look: Look) -> tuple[int, ...]:
    """Return the shape of one example's targets as they are held."""
    return look.target_shape if look.task == "classification" else (look.num_outputs,)


def _gather(reader: BlockReader, chosen: Selection, step: int, empty: DecodedBlock) -> DecodedBlock:
    """Return the rows that are chosen, one block after the other: equal block numbers stand together."""
    count = len(chosen.rows)
    x = np.empty((count, *empty.x.shape[1:]), empty.x.dtype)
    y = np.empty((count, *empty.y.shape[1:]), empty.y.dtype)
    weights = None if empty.weights is None else np.empty(count)
    cuts = [0, *(np.flatnonzero(np.diff(chosen.blocks)) + 1).tolist(), count]
    for start, stop in pairwise(cuts):
        if start < stop:
            block = reader.get(int(chosen.blocks[start]), step)
            rows = chosen.rows[start:stop]  # they are inside; "clip" only spares a copy
            block.x.take(rows, axis=0, out=x[start:stop], mode="clip")
            block.y.take(rows, axis=0, out=y[start:stop], mode="clip")
            if weights is not None and block.weights is not None:
                weights[start:stop] = block.weights[rows]
    return DecodedBlock(x, y, weights)
