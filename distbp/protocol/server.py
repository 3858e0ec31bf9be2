"""The parameter server: holds the train state, adds the partials along the tree, and commits each step once."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.nn import tree
from distbp.nn.blas import fixed_arithmetic
from distbp.nn.digests import BLOCK, block_checksum
from distbp.nn.optimizers import add_decay, update
from distbp.nn.sgd import clip_factor, sum_of_squares
from distbp.protocol.messages import Partial, ServerTask, ShardResult, Snapshot, StepOrder, StepReport, TrainState

NUM_REMEMBERED_REPORTS = 512

Exchange = Callable[[list[float]], list[float]]


class Keeper(Protocol):
    """Keeps what a server needs to be replaced: its moments, and the state before each commit, until the next one."""

    def moments(self, step: int) -> tuple[NDArray, ...]:
        """Return the arrays for the moments after `step` steps; two sets of them in turn, so those before stay."""

    def open(self, state: TrainState) -> None:
        """Take over the state."""

    def begin(self) -> None:
        """The next step is going to be committed."""

    def keep(self, block: slice) -> None:
        """Keep a block of the parameters, which is about to be changed; blocks come in order."""

    def finish(self, report: StepReport) -> None:
        """The step is committed."""


class ParameterServer:
    """Averages the workers' gradients and applies the SGD update, block by block of the flat vector.

    It holds all of the vector, or a slice that begins at a multiple of BLOCK; then it gets that slice of every
    gradient. It is built from a state, so a new server continues where an old one stood.
    """

    def __init__(
        self,
        task: ServerTask,
        state: TrainState,
        offset: int = 0,
        memory: NDArray | None = None,
        keeper: Keeper | None = None,
    ):
        """Take over `state`, whose arrays are the slice that begins at `offset`.

        memory: the array to keep the parameters in, for instance shared with workers; None: an array of its own.
        keeper: has the moments, and sees every change before it is made; None: nobody does.
        """
        self._task = task
        self._step = state.step
        self._offset = offset
        self._parameters = np.empty_like(state.parameters) if memory is None else memory
        self._parameters[...] = state.parameters
        self._keeper = keeper
        if keeper is None:
            self._moments = tuple(moment.copy() for moment in state.moments)
        else:
            keeper.open(state)
            self._moments = keeper.moments(state.step)
        self._gradient = np.empty_like(state.parameters) if task.optimizer.largest_norm is not None else None
        self._reports: deque[StepReport] = deque(maxlen=NUM_REMEMBERED_REPORTS)
        self._last_commit = time.perf_counter()

    @property
    def parameters(self) -> NDArray:
        """The current parameters; the next commit changes them in place."""
        return self._parameters

    @property
    def num_steps(self) -> int:
        """How many steps are done."""
        return self._step

    @fixed_arithmetic()
    def commit(self, order: StepOrder, results: Sequence[ShardResult], exchange: Exchange | None = None) -> StepReport:
        """Apply the step. What is not finite any more shows in the next loss.

        exchange: a function that takes this slice's sums of squares (none without clipping) and returns those of all
        servers, once each of them has all of its partials; None when this is the only server.

        Raises ValueError if the order is not the next step, so none is applied twice, or if the partials do not make
        up its batch.
        """
        if order.step != self._step:
            raise ValueError(f"step {order.step} was committed while step {self._step} is next")
        began = time.perf_counter()
        sums = _Sums.of([partial for result in results for partial in result.partials], order.num_microbatches)
        squares = self._keep_averaged(sums)
        if exchange is not None:
            squares = exchange(squares)
        committed = math.isfinite(sums.loss)
        checksum = self._apply(sums, squares, order.learning_rate) if committed else 0
        return self._close_step(order, sums, committed, checksum, results, began)

    def snapshot(self) -> Snapshot:
        """Return a copy of the state and the newest reports."""
        state = TrainState(self._step, self._parameters.copy(), tuple(moment.copy() for moment in self._moments))
        return Snapshot(state, tuple(self._reports))

    def _keep_averaged(self, sums: _Sums) -> list[float]:
        """With clipping, keep the averaged gradient and return the sum of squares of each of its blocks."""
        if self._gradient is None:
            return []
        squares = []
        for start in range(0, len(self._gradient), BLOCK):
            block = slice(start, start + BLOCK)
            self._gradient[block] = self._averaged(sums, block)
            squares.append(sum_of_squares(self._gradient[block]))
        return squares

    def _apply(self, sums: _Sums, squares: list[float], learning_rate: float) -> int:
        """Average, decay, clip and step; returns what this slice adds to the checksum of the new parameters."""
        clip_norm = self._task.optimizer.largest_norm
        clip = 1.0 if clip_norm is None else clip_factor(squares, clip_norm)
        checksum = 0
        before = moments = self._moments
        if self._keeper is not None:
            self._keeper.begin()
            moments = self._keeper.moments(self._step + 1)
        for start in range(0, len(self._parameters), BLOCK):
            block = slice(start, start + BLOCK)
            if self._keeper is not None:
                self._keeper.keep(block)
            gradient = self._averaged(sums, block) if self._gradient is None else self._gradient[block]
            if clip < 1:
                gradient *= clip
            update(
                self._task.optimizer,
                self._parameters[block],
                [moment[block] for moment in moments],
                gradient,
                self._step + 1,
                learning_rate,
                self._task.decays,
                self._offset + block.start,
                [moment[block] for moment in before],
            )
            for part in self._buffers_in(block):
                self._parameters[part] += sums.mean(part)
            checksum += block_checksum(self._parameters[block], (self._offset + start) // BLOCK)
        self._moments = moments
        return checksum % (1 << 64)

    def _averaged(self, sums: _Sums, block: slice) -> NDArray:
        """Return the batch's mean gradient with weight decay, one block of it, a new array; 0 for buffers."""
        gradient = sums.mean(block)
        for part in self._buffers_in(block):
            gradient[part.start - block.start : part.stop - block.start] = 0
        if self._task.decays:
            offset = self._offset + block.start
            add_decay(self._task.optimizer, gradient, self._parameters[block], self._task.decays, offset)
        return gradient

    def _buffers_in(self, block: slice) -> list[slice]:
        """Return the parts of a block that hold buffers: instead of a step they take the mean of their changes."""
        found = (
            slice(max(start - self._offset, block.start), min(stop - self._offset, block.stop))
            for start, stop in self._task.buffers
        )
        return [part for part in found if part.start < part.stop]

    def _close_step(
        self,
        order: StepOrder,
        sums: _Sums,
        committed: bool,
        checksum: int,
        results: Sequence[ShardResult],
        began: float,
    ) -> StepReport:
        now = time.perf_counter()
        computed_s = [result.compute_s for result in results]
        compute_s, data_s = max(computed_s), max(result.data_s for result in results)
        report = StepReport(
            step=order.step + 1,
            epoch=order.epoch,
            loss=sums.loss / (sums.divisor or 1),
            num_examples=sums.num_examples,
            checksum=f"{checksum:016x}",
            committed=committed,
            compute_s=compute_s,
            wait_s=max(0.0, began - self._last_commit - compute_s - data_s),
            commit_s=now - began,
            mean_compute_s=sum(computed_s) / len(computed_s),
            data_s=data_s,
            weight=sums.divisor if isinstance(sums.divisor, float) else None,
        )
        self._last_commit = now
        if committed:
            self._step += 1
            self._reports.append(report)
            if self._keeper is not None:
                self._keeper.finish(report)
        return report


@dataclass(frozen=True)
class _Sums:
    """The partials of one whole batch and the order in which the tree adds them.

    divisor: what their mean is over. A batch whose weights are all 0, or that has no token to learn, has sums of 0, and
    its mean is 0.
    """

    partials: tuple[Partial, ...]
    additions: tuple[tuple[int, int], ...]
    loss: float
    num_examples: int
    divisor: float

    @classmethod
    def of(cls, partials: list[Partial], count: int) -> _Sums:
        partials.sort(key=lambda partial: partial.start)
        nodes = tuple((partial.start, partial.stop) for partial in partials)
        additions = tree.merge_order(nodes, (0, count))
        loss = tree.merge([partial.loss for partial in partials], additions, lambda a, b: a + b)
        num_examples = sum(partial.num_examples for partial in partials)
        return cls(tuple(partials), additions, loss, num_examples, _add_weights(partials, additions, num_examples))

    def mean(self, block: slice) -> NDArray:
        """Return one block of the mean gradient, a new array; the partials stay as they are."""
        values = [partial.gradient[block] for partial in self.partials]
        if not self.additions:
            return values[0] / (self.divisor or 1)
        gradient = tree.merge(values, self.additions, np.add)
        gradient /= self.divisor or 1
        return gradient


def _add_weights(partials: list[Partial], additions: tuple[tuple[int, int], ...], num_examples: int) -> float:
    """Return what the sums are divided by: the number of examples, or the sum of their weights along the same tree."""
    weights = [partial.weight for partial in partials if partial.weight is not None]
    if not weights:
        return num_examples
    return tree.merge(weights, additions, lambda a, b: a + b)
