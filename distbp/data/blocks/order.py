"""The order of an epoch of data in blocks: a pure function, evaluated for the microbatch that is asked for.

The blocks are permuted in every epoch; N examples stand in a row. With c(m) the number of examples before
microbatch m in a batch of B, **lane** m is positions floor(N c(m) / B) to floor(N c(m + 1) / B) of that row, and
microbatch m of every step takes the next examples of lane m. So a worker reads only the lanes of its shard. Inside
a lane, **windows** of `window_blocks` blocks' worth of positions are permuted.

Every lane has at least (S - 1) b(m) and at most S b(m) examples, where S = ceil(N / B) and b(m) = c(m + 1) - c(m).
So each example is taken exactly once an epoch, and nothing has to divide anything. In the last step of an epoch
every microbatch may be short, or empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from distbp.data.blocks.permutation import BlockPurpose, KeyedPermutation, make_keys, permute_all

AT_ONCE = 1 << 12
"""Examples of a lane that are located together: few take as long as many. They take 64 KB of memory a lane."""


@dataclass(frozen=True)
class Lanes:
    """How N examples are dealt to the microbatches of a batch."""

    num_examples: int
    batch_size: int
    microbatch_size: int

    @property
    def num_lanes(self) -> int:
        """Microbatches in a batch."""
        return -(-self.batch_size // self.microbatch_size)

    @property
    def num_steps(self) -> int:
        """Steps in an epoch."""
        return -(-self.num_examples // self.batch_size)

    def width(self, lane: int) -> int:
        """Return how many examples a step takes from a lane, in every step but the last."""
        return self._before(lane + 1) - self._before(lane)

    def bounds(self, lane: int) -> tuple[int, int]:
        """Return the positions [start, stop) of a lane."""
        total, batch = self.num_examples, self.batch_size
        return total * self._before(lane) // batch, total * self._before(lane + 1) // batch

    def taken(self, lane: int, step: int) -> tuple[int, int]:
        """Return which examples of its own, [start, stop), a lane gives in `step` of an epoch."""
        start, stop = self.bounds(lane)
        width, length = self.width(lane), stop - start
        return min(step * width, length), min((step + 1) * width, length)

    def _before(self, lane: int) -> int:
        return min(lane * self.microbatch_size, self.batch_size)


@dataclass(frozen=True)
class Selection:
    """The examples of one microbatch. blocks, rows: (b,) int64, sorted by position; rows count inside the block."""

    blocks: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class WindowNeed:
    """The blocks that a lane reads during the steps [first_step, stop_step) of the run, in the order of the row."""

    lane: int
    first_step: int
    stop_step: int
    blocks: tuple[int, ...]


class BlockOrder:
    """Which rows of which blocks every microbatch of every step takes. Steps count over the whole run.

    block_rows: (K,) the examples in each block that are to be trained on; 0 is allowed.
    """

    def __init__(self, block_rows: NDArray[np.int64], lanes: Lanes, window_blocks: int, seed: int):
        if int(block_rows.sum()) != lanes.num_examples or lanes.batch_size > lanes.num_examples:
            raise ValueError(f"{block_rows.sum()} rows in blocks and {lanes}: sizes do not fit")
        self.lanes = lanes
        self._rows = block_rows
        self._seed = seed
        num_filled = int(np.count_nonzero(block_rows))
        self._window_size = max(1, window_blocks * lanes.num_examples // num_filled)
        self._epoch = lru_cache(maxsize=4)(self._make_epoch)
        self._permutation = lru_cache(maxsize=lanes.num_lanes + 1)(self._make_permutation)
        self._group = lru_cache(maxsize=lanes.num_lanes + 1)(self._make_group)

    def select(self, step: int, microbatch: int) -> Selection:
        """Return the examples that microbatch number `microbatch` of `step` takes."""
        epoch, inner = divmod(step, self.lanes.num_steps)
        number, place = divmod(inner, self._steps_at_once(microbatch))
        return self._group(epoch, microbatch, number)[place]

    def needs(self, lane: int, step: int) -> Iterator[WindowNeed]:
        """Yield the windows of a lane, from that of `step` to the end of the epoch of `step`."""
        epoch, inner = divmod(step, self.lanes.num_steps)
        lane_start, lane_stop = self.lanes.bounds(lane)
        width, began = self.lanes.width(lane), step - inner
        for window in range(self._num_windows(lane_stop - lane_start)):
            start, stop = self._window(lane_stop - lane_start, window)
            first, last = start // width, -(-stop // width)
            if last > inner:
                blocks = self._epoch(epoch).blocks_between(lane_start + start, lane_start + stop)
                yield WindowNeed(lane, began + max(first, inner), began + last, blocks)

    def _permute(self, epoch: int, lane: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return what stands at positions [start, stop) of a lane, counted from its start."""
        lane_start, lane_stop = self.lanes.bounds(lane)
        length = lane_stop - lane_start
        pieces = []
        while start < stop:
            window = self._window_of(length, start)
            first, end = self._window(length, window)
            inside = np.arange(start - first, min(stop, end) - first)
            pieces.append(first + self._permutation(epoch, lane, window, end - first)(inside))
            start = end
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def _num_windows(self, length: int) -> int:
        return -(-length // self._window_size)

    def _window(self, length: int, window: int) -> tuple[int, int]:
        """Return [start, stop) of a window: all windows of a lane are of equal size, give or take one."""
        count = self._num_windows(length)
        return length * window // count, length * (window + 1) // count

    def _window_of(self, length: int, position: int) -> int:
        """Return the window that holds `position`: the largest one that starts at or before it."""
        return ((position + 1) * self._num_windows(length) - 1) // length

    def _steps_at_once(self, lane: int) -> int:
        return max(1, AT_ONCE // self.lanes.width(lane))

    def _make_group(self, epoch: int, lane: int, number: int) -> list[Selection]:
        """Return what a lane gives in some steps of an epoch, one after the other."""
        lanes, count = self.lanes, self._steps_at_once(lane)
        steps = range(number * count, min((number + 1) * count, lanes.num_steps))
        bounds = [lanes.taken(lane, step) for step in steps]
        start = bounds[0][0]
        offsets = self._permute(epoch, lane, start, bounds[-1][1])
        for first, last in bounds:
            offsets[first - start : last - start].sort()
        found = self._epoch(epoch).locate(lanes.bounds(lane)[0] + offsets)
        pieces = [slice(first - start, last - start) for first, last in bounds]
        return [Selection(found.blocks[piece], found.rows[piece]) for piece in pieces]

    def _make_permutation(self, epoch: int, lane: int, window: int, size: int) -> KeyedPermutation:
        return KeyedPermutation(size, make_keys(self._seed, BlockPurpose.WINDOW, epoch, lane, window))

    def _make_epoch(self, epoch: int) -> _Epoch:
        order = permute_all(len(self._rows), make_keys(self._seed, BlockPurpose.BLOCKS, epoch))
        return _Epoch(order, np.concatenate([[0], np.cumsum(self._rows[order])]))


@dataclass(frozen=True)
class _Epoch:
    """The blocks in one epoch's order (K,), and where each starts (K + 1,)."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    def locate(self, positions: NDArray[np.int64]) -> Selection:
        places = np.searchsorted(self.starts, positions, side="right") - 1  # never an empty block
        return Selection(self.order[places], positions - self.starts[places])

    def blocks_between(self, start: int, stop: int) -> tuple[int, ...]:
        first, last = np.searchsorted(self.starts, (start, stop - 1), side="right") - 1
        places = np.arange(first, last + 1)
        filled = places[self.starts[places] < self.starts[places + 1]]
        return tuple(self.order[filled].tolist())
