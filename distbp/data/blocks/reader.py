"""Decoded blocks within a bounded memory, read ahead of the step by a thread.

Who needs a block that is not there yet waits for the thread, or reads it on the spot: memory and timing decide how
long a step takes, never what it gets.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from numpy.typing import NDArray


@dataclass(frozen=True)
class DecodedBlock:
    """The rows of one part of a block.

    x: (n, I) raw features; y: (n,) class numbers, (n, T) of them, or (n, O) targets.
    weights: (n,) float64, what each example counts; None: all the same.
    """

    x: NDArray
    y: NDArray
    weights: NDArray | None = None

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return self.x.nbytes + self.y.nbytes + (0 if self.weights is None else self.weights.nbytes)


@dataclass(frozen=True)
class BlockNeed:
    """A block that is used in the steps [first_step, stop_step)."""

    block: int
    first_step: int
    stop_step: int


@dataclass
class _Held:
    decoded: DecodedBlock
    first_step: int
    stop_step: int


class BlockReader:
    """Gives decoded blocks to any number of threads.

    decode: reads a block. num_bytes: how large a decoded block will be. memory_bytes: what all blocks together may
    take, beside the one that each thread is working on.

    waited_s: seconds that `get` has waited for data, over all threads.
    """

    def __init__(self, decode: Callable[[int], DecodedBlock], num_bytes: Callable[[int], int], memory_bytes: int):
        self.waited_s = 0.0
        self._decode = decode
        self._num_bytes = num_bytes
        self._memory_bytes = memory_bytes
        self._held: dict[int, _Held] = {}
        self._being_read: dict[int, int] = {}  # until which step each will be needed
        self._failed: dict[int, Exception] = {}
        self._reserved_bytes = 0
        self._step = 0
        self._needs: Iterator[BlockNeed] | None = None
        self._planned: deque[BlockNeed] = deque()  # taken from the plan, but not yet read or dropped before its use
        self._claiming: BlockNeed | None = None
        self._plan_number = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read_ahead, name="distbp-read-ahead", daemon=True)

    def expect(self, needs: Iterable[BlockNeed], step: int) -> None:
        """Read ahead what is needed from `step` on, in this order, instead of what was expected before."""
        with self._changed:
            self._needs = iter(needs)
            self._planned.clear()
            self._claiming = None
            self._plan_number += 1
            self._step = step
            for held in self._held.values():
                held.first_step = held.stop_step = step  # until the new plan says otherwise
            self._failed.clear()
            if not self._thread.is_alive() and not self._is_closed:
                self._thread.start()
            self._changed.notify_all()

    def get(self, block: int, step: int) -> DecodedBlock:
        """Return a block, which `step` needs. Raises what reading it raised."""
        with self._changed:
            if step != self._step:
                self._step = step
                self._changed.notify_all()
            if block in self._held:
                return self._held[block].decoded
        began = time.perf_counter()
        try:
            return self._wait_for(block, step)
        finally:
            with self._changed:
                self.waited_s += time.perf_counter() - began

    def close(self) -> None:
        """End the thread, as soon as the block that it is reading is there, and forget all blocks."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._held.clear()

    def _wait_for(self, block: int, step: int) -> DecodedBlock:
        with self._changed:
            while block in self._being_read:
                self._changed.wait()
            if block in self._held:
                return self._held[block].decoded
            if block in self._failed:
                raise self._failed.pop(block)
            need = BlockNeed(block, step, self._find_stop(block, step))
            self._being_read[block] = need.stop_step
        return self._read(need)

    def _find_stop(self, block: int, step: int) -> int:
        """Return until when a block is needed that is read on the spot: by the plan, or for this step alone."""
        while self._needs is not None and (not self._planned or self._planned[-1].first_step <= step):
            found = next(self._needs, None)
            if found is None:
                self._needs = None
            else:
                self._planned.append(found)
        known = [*self._planned, *(() if self._claiming is None else (self._claiming,))]
        return max((n.stop_step for n in known if n.block == block and n.first_step <= step), default=step + 1)

    def _read(self, need: BlockNeed, reserved_bytes: int = 0) -> DecodedBlock:
        """Return a block that is claimed in `_being_read`, and keep it if there is room."""
        decoded = None
        try:
            decoded = self._decode(need.block)
            return decoded
        finally:
            with self._changed:
                stop_step = self._being_read.pop(need.block)
                self._reserved_bytes -= reserved_bytes
                if decoded is not None and self._make_room(decoded.num_bytes, need.first_step):
                    self._held[need.block] = _Held(decoded, need.first_step, stop_step)
                self._changed.notify_all()

    def _read_ahead(self) -> None:
        while (need := self._next_need()) is not None:
            try:
                self._read(need, self._num_bytes(need.block))
            except Exception as error:  # whoever needs the block is told
                with self._changed:
                    self._failed[need.block] = error

    def _next_need(self) -> BlockNeed | None:
        """Return the next block to read, claimed and with room for it; None when closed."""
        with self._changed:
            while not self._is_closed:
                self._claiming = need = self._take_planned()
                if need is None:
                    self._changed.wait()
                elif self._claim(need):
                    self._claiming = None
                    return need
            return None

    def _take_planned(self) -> BlockNeed | None:
        if self._planned:
            return self._planned.popleft()
        need = None if self._needs is None else next(self._needs, None)
        if need is None:
            self._needs = None
        return need

    def _claim(self, need: BlockNeed) -> bool:
        """Return whether a block is to be read, waiting until there is room or another plan."""
        plan, size = self._plan_number, self._num_bytes(need.block)
        while not self._is_closed and plan == self._plan_number and need.stop_step > self._step:
            if need.block in self._held:
                held = self._held[need.block]
                held.stop_step = max(held.stop_step, need.stop_step)
                return False
            if need.block in self._being_read:
                self._being_read[need.block] = max(self._being_read[need.block], need.stop_step)
                return False
            if need.block in self._failed:
                return False
            if self._make_room(size, need.first_step):
                self._being_read[need.block] = need.stop_step
                self._reserved_bytes += size
                return True
            self._changed.wait()
        return False

    def _make_room(self, num_bytes: int, first_step: int) -> bool:
        """Return whether a block that is needed in `first_step` fits, after what is needed later has gone."""
        used = self._reserved_bytes + sum(held.decoded.num_bytes for held in self._held.values())
        for block, held in sorted(self._held.items(), key=lambda item: self._usefulness(item[1])):
            if used + num_bytes <= self._memory_bytes:
                break
            is_done = held.stop_step <= self._step
            if is_done or held.first_step > max(first_step, self._step):
                used -= held.decoded.num_bytes
                del self._held[block]
                if not is_done:
                    self._planned.appendleft(BlockNeed(block, held.first_step, held.stop_step))
        return used + num_bytes <= self._memory_bytes

    def _usefulness(self, held: _Held) -> tuple[bool, int]:
        return held.stop_step > self._step, -held.first_step
