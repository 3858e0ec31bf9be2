"""The parameter server in rounds: it averages what the replicas ended with, and takes the outer step."""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from distbp.nn import tree
from distbp.nn.blas import fixed_arithmetic
from distbp.nn.digests import BLOCK, block_checksum
from distbp.nn.outer import add_to_mean, outer_step, share_of
from distbp.protocol.messages import (
    InnerStep,
    Partial,
    ServerTask,
    ShardResult,
    Snapshot,
    StepOrder,
    StepReport,
    TrainState,
)
from distbp.protocol.server import NUM_REMEMBERED_REPORTS, Exchange


class OuterServer:
    """Commits whole rounds, block by block of its slice of the flat vector; otherwise as a ParameterServer."""

    def __init__(self, task: ServerTask, state: TrainState, offset: int = 0, memory: NDArray | None = None):
        """Take over `state`, whose arrays are the slice that begins at `offset`; its one moment is the velocity.

        memory: the array to keep the parameters in; None: an array of its own.
        """
        assert task.outer is not None  # else a ParameterServer is wanted
        self._outer = task.outer
        self._buffers = task.buffers
        self._step = state.step
        self._offset = offset
        self._parameters = np.empty_like(state.parameters) if memory is None else memory
        self._parameters[...] = state.parameters
        (velocity,) = state.moments
        self._velocity = velocity.copy()
        self._reports: deque[StepReport] = deque()
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
        """Apply the round, unless a loss was not finite. exchange: as of ParameterServer.commit.

        Raises ValueError if the order is not the next round, or if the partials do not make up all its replicas.
        """
        if order.step != self._step:
            raise ValueError(f"the round from step {order.step} was committed while step {self._step} is next")
        began = time.perf_counter()
        partials = sorted((p for result in results for p in result.partials), key=lambda p: p.start)
        additions = tree.merge_order(tuple((p.start, p.stop) for p in partials), (0, order.num_microbatches))
        steps = tree.merge([p.steps for p in partials], additions, _join_steps)
        if exchange is not None:
            exchange([])
        committed = all(math.isfinite(step.loss) for step in steps)
        checksum = self._apply(partials, additions) if committed else 0
        return self._close(order, steps, results, checksum, began)

    def snapshot(self) -> Snapshot:
        """Return a copy of the state and the newest reports."""
        state = TrainState(self._step, self._parameters.copy(), (self._velocity.copy(),))
        return Snapshot(state, tuple(one for report in self._reports for one in report.unrolled()))

    def _apply(self, partials: Sequence[Partial], additions: Sequence[tuple[int, int]]) -> int:
        """Average and step; returns what this slice adds to the checksum of the new parameters."""
        checksum = 0
        for start in range(0, len(self._parameters), BLOCK):
            block = slice(start, start + BLOCK)
            mean = _average(partials, additions, block)
            buffers = [(part, mean[part.start - start : part.stop - start].copy()) for part in self._buffers_in(block)]
            outer_step(self._parameters[block], self._velocity[block], mean, self._outer)
            for part, values in buffers:
                self._parameters[part] = values
                self._velocity[part] = 0
            checksum += block_checksum(self._parameters[block], (self._offset + start) // BLOCK)
        return checksum % (1 << 64)

    def _buffers_in(self, block: slice) -> list[slice]:
        """Return the parts of a block that hold buffers, which become the mean itself."""
        stop_of_block = min(block.stop, len(self._parameters))
        found = (
            slice(max(start - self._offset, block.start), min(stop - self._offset, stop_of_block))
            for start, stop in self._buffers
        )
        return [part for part in found if part.start < part.stop]

    def _close(
        self, order: StepOrder, steps: Sequence[InnerStep], results: Sequence[ShardResult], checksum: int, began: float
    ) -> StepReport:
        now = time.perf_counter()
        reports = [_report(order, number, step, results) for number, step in enumerate(steps)]
        waited_s = began - self._last_commit - sum(report.compute_s + report.data_s for report in reports)
        self._last_commit = now
        wait_s, commit_s = max(0.0, waited_s), now - began
        lost = next((number for number, report in enumerate(reports) if not math.isfinite(report.loss)), None)
        if lost is not None:
            return replace(
                reports[lost], steps=tuple(reports[:lost]), committed=False, wait_s=wait_s, commit_s=commit_s
            )
        before, checksum_text = tuple(reports[:-1]), f"{checksum:016x}"
        report = replace(reports[-1], steps=before, checksum=checksum_text, wait_s=wait_s, commit_s=commit_s)
        self._step = order.end
        self._remember(report)
        return report

    def _remember(self, report: StepReport) -> None:
        """Keep the reports that may not have arrived: as many steps as a ParameterServer, and two rounds at least."""
        self._reports.append(report)
        num_steps = sum(len(one.steps) + 1 for one in self._reports)
        while len(self._reports) > 2 and num_steps - len(self._reports[0].steps) - 1 >= NUM_REMEMBERED_REPORTS:
            num_steps -= len(self._reports.popleft().steps) + 1


def _average(partials: Sequence[Partial], additions: Sequence[tuple[int, int]], block: slice) -> NDArray:
    """Return one block of the mean of where the replicas ended, a new array; the partials stay as they are."""
    values = [(partial.gradient[block].copy(), partial.num_examples) for partial in partials]
    mean, _ = tree.merge(values, additions, _add)
    return mean


def _add(left: tuple[NDArray, int], right: tuple[NDArray, int]) -> tuple[NDArray, int]:
    add_to_mean(left[0], right[0], share_of(left[1], right[1]))
    return left[0], left[1] + right[1]


def _join_steps(left: tuple[InnerStep, ...], right: tuple[InnerStep, ...]) -> tuple[InnerStep, ...]:
    return tuple(map(InnerStep.joined, left, right))


def _report(order: StepOrder, number: int, step: InnerStep, results: Sequence[ShardResult]) -> StepReport:
    """Return the report of one step of a round; a worker's seconds are those of all its replicas."""
    computed_s = [sum(partial.steps[number].compute_s for partial in result.partials) for result in results]
    waited_s = [sum(partial.steps[number].data_s for partial in result.partials) for result in results]
    return StepReport(
        step=order.steps[number].step + 1,
        epoch=order.epoch,
        loss=step.loss / step.num_examples if step.num_examples else step.loss,
        num_examples=step.num_examples,
        checksum=hashlib.sha256("".join(step.checksums).encode()).hexdigest()[:16],
        committed=True,
        compute_s=max(computed_s),
        wait_s=0.0,
        commit_s=0.0,
        mean_compute_s=sum(computed_s) / len(computed_s),
        data_s=max(waited_s),
        replicas=step.checksums,
    )
