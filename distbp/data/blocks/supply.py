"""One part of a source in blocks as a run's workers use it: small enough to be sent, opened where examples are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.blocks.examples import BlockSource, HeldOutBlocks, TrainingBlocks, make_order
from distbp.data.blocks.fetch import DiskCache, Fetcher
from distbp.data.blocks.kept import find_cache_folder
from distbp.data.blocks.order import Lanes
from distbp.data.reading import check_memory
from distbp.data.weights import NO_CLASSES, weigh_each_class
from distbp.errors import DataError
from distbp.protocol.examples import Examples, Scaling
from distbp.protocol.supply import EVALUATION_CHUNK, Batch, Course, HeldOut, Training

HELD_OUT_SHARE = 4
"""A worker reads examples to evaluate on from front to back, which takes few blocks: a quarter of its memory."""
ALONE = Course(1, 1, 1, 1, memory_bytes=1 << 28, cache_bytes=0)
"""Where no run says otherwise."""


@dataclass(frozen=True)
class BlockSupply:
    """The examples of a source that are trained on, or those held out."""

    source: BlockSource
    is_held_out: bool
    course: Course = ALONE

    def __len__(self) -> int:
        """Return how many examples there are."""
        return int(self._rows.sum())

    def along(self, course: Course) -> Self:
        """Return the same examples for a run of this course."""
        return replace(self, course=course)

    def count_fewest(self) -> int:
        """Return the number of examples in the smallest microbatch of the run that has any."""
        course = self.course
        lanes = Lanes(len(self), course.batch_size, course.microbatch_size)
        last = (lanes.taken(lane, lanes.num_steps - 1) for lane in range(lanes.num_lanes))
        widths = {lanes.width(lane) for lane in range(lanes.num_lanes)}
        return min(widths | {stop - start for start, stop in last if stop > start})

    def find_extent(self) -> tuple[NDArray, NDArray]:
        """Return the smallest and the largest value of each raw feature, (I,) float64, of those trained on."""
        statistics = self.source.look.statistics
        return np.array(statistics.low), np.array(statistics.high)

    def describe_shortage(self, num_workers: int) -> str | None:
        """Return what to do where a worker's lanes are in more blocks at a time than its memory holds."""
        course, rows = self.course, self._rows[self._rows > 0]
        lanes = -(-course.batch_size // course.microbatch_size)
        at_once = min(len(rows), -(-lanes // num_workers) * (course.window_blocks + 1))
        block_bytes = int(rows.mean()) * self.source.row_bytes
        usable = course.memory_bytes - course.memory_bytes // HELD_OUT_SHARE
        if at_once * block_bytes <= usable:
            return None
        wanted_mb = at_once * block_bytes * HELD_OUT_SHARE // ((HELD_OUT_SHARE - 1) * 10**6) + 1
        return (
            f"a worker reads from about {at_once} blocks of {block_bytes / 1e6:.3g} MB at a time, more than "
            f"memory_for_data={course.memory_bytes / 1e6:.3g}MB holds, so blocks are read again and again; raise it to "
            f"{wanted_mb}MB, use more workers, or a smaller data.window_blocks, which is another recipe"
        )

    def fingerprint(self) -> str:
        """Return a SHA-256 over all values of the source, its blocks, and which part this is."""
        found = ["in blocks", self.source.look.fingerprint(), self.is_held_out]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()

    def open_training(self, seed: int, dtype: DTypeLike) -> Training:
        """Return the examples in the order of the run's lanes."""
        return _Lanes(self, seed, dtype)

    def open_held_out(self, dtype: DTypeLike) -> HeldOut:
        """Return the examples in the order of the blocks."""
        return _Chunks(self, dtype)

    def hold(self) -> Examples:
        """Return all examples in memory, in the order of the blocks. Raises DataError where there is too little."""
        source, count = self.source, len(self)
        check_memory(count * source.row_bytes, f"'{source.look.contents.listing.source}'")
        fetcher = self.make_fetcher()
        numbers = np.flatnonzero(self._rows).tolist()
        blocks = [source.read(number, self.is_held_out, fetcher) for number in numbers]
        x, y = np.concatenate([block.x for block in blocks]), np.concatenate([block.y for block in blocks])
        weighed = [source.weigh(block, not self.is_held_out) for block in blocks]
        weights = np.concatenate([part for part in weighed if part is not None]) if weighed[0] is not None else None
        return Examples(x, y, np.arange(count), source.scaling, None, source.targets, weights)

    def measure_targets(self) -> Scaling:
        """Return the map of the targets that are trained on, numbers, to mean 0 and standard deviation 1."""
        targets = self.source.look.targets
        assert targets is not None  # asked of a regression only
        return targets.to_scaling("standard")

    def scale_targets(self, targets: Scaling) -> Self:
        """Return the same examples, their targets (n, O) scaled where they are taken."""
        return replace(self, source=replace(self.source, targets=targets))

    def weigh_classes(self, wanted: Literal["balanced"] | Mapping[str, float]) -> Self:
        """Return the same examples, which count as their classes do where they are trained on. Raises DataError."""
        look = self.source.look
        if look.spec.classes is None or look.target_shape:
            raise DataError(NO_CLASSES)
        weights = weigh_each_class(np.array(look.trained), look.spec.classes, wanted)
        return replace(self, source=replace(self.source, class_weights=tuple(weights.tolist())))

    def locate_batch(self, step: int, seed: int) -> NDArray[np.int64]:
        """Return the examples of a step's batch, ascending, as numbers into what `hold` gives."""
        course = self.course
        order = make_order(self.source, course.batch_size, course.microbatch_size, course.window_blocks, seed)
        starts = np.concatenate([[0], np.cumsum(self._rows)])
        found = [order.select(step, lane) for lane in range(order.lanes.num_lanes)]
        return np.sort(np.concatenate([starts[lane.blocks] + lane.rows for lane in found]))

    def make_fetcher(self) -> Fetcher:
        """Return what reads files here."""
        folder = find_cache_folder("ranges")
        return Fetcher(DiskCache(folder, self.course.cache_bytes) if folder and self.course.cache_bytes else None)

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return self.source.rows_in_blocks(self.is_held_out)


class _Lanes:
    """A supply as one worker trains on it."""

    def __init__(self, supply: BlockSupply, seed: int, dtype: DTypeLike):
        course = supply.course
        order = make_order(supply.source, course.batch_size, course.microbatch_size, course.window_blocks, seed)
        self._fetcher = supply.make_fetcher()
        self._blocks = TrainingBlocks(
            supply.source, order, dtype, self._fetcher, course.memory_bytes - course.memory_bytes // HELD_OUT_SHARE
        )
        self._num_steps = course.num_steps
        self._steps_a_round = course.steps_a_round
        self._lanes = range(0)
        self._next = 0

    @property
    def waited_s(self) -> float:
        """Seconds that `take` has waited, over all threads."""
        return self._blocks.reader.waited_s

    def begin(self, step: int, epoch: int, positions: slice, lanes: range, first: int = 0) -> None:  # noqa: ARG002 - for arrays
        """Read ahead for other lanes than before, where these are others or the run went on elsewhere.

        A step back within a round is the next replica's turn: its blocks have been read with those of the others.
        """
        if lanes != self._lanes or not self._next - self._steps_a_round <= step <= self._next:
            self._blocks.expect(lanes, step, max(self._num_steps, step + 1))
        self._lanes, self._next = lanes, step + 1

    def take(self, step: int, microbatch: int) -> Batch:
        """Return the examples of one microbatch."""
        return self._blocks.take(step, microbatch)

    def hurry(self) -> None:
        """Wait no longer for storage that refuses."""
        self._fetcher.stop()

    def close(self) -> None:
        """End the thread that reads ahead."""
        self.hurry()
        self._blocks.close()


class _Chunks:
    """A supply as one worker evaluates on it."""

    def __init__(self, supply: BlockSupply, dtype: DTypeLike):
        self._fetcher = supply.make_fetcher()
        memory_bytes = supply.course.memory_bytes // HELD_OUT_SHARE
        self._blocks = HeldOutBlocks(supply.source, dtype, self._fetcher, memory_bytes, supply.is_held_out)

    def begin(self, chunks: range) -> None:
        """Read ahead for these chunks."""
        self._blocks.expect(chunks.start * EVALUATION_CHUNK, chunks.stop * EVALUATION_CHUNK)

    def take(self, chunk: int) -> Batch:
        """Return the examples of one chunk."""
        return self._blocks.take(chunk * EVALUATION_CHUNK, (chunk + 1) * EVALUATION_CHUNK)

    def hurry(self) -> None:
        """Wait no longer for storage that refuses."""
        self._fetcher.stop()

    def close(self) -> None:
        """End the thread that reads ahead."""
        self.hurry()
        self._blocks.close()
