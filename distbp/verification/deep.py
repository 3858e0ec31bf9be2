"""Where two runs part inside their first differing step: in which microbatch, and in which tensor.

A run stores a checksum after each step and no gradients. So the step is computed again in this process for both runs,
each from its own checkpoint with its own recipe and data, and their microbatches are compared one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.errors import CheckpointError, ConfigError
from distbp.nn.layout import Layout
from distbp.nn.numerics import describe_kernels
from distbp.nn.optimizers import MOMENTS
from distbp.protocol.messages import TrainState
from distbp.run import RunDirectory
from distbp.run.records import StepRecord
from distbp.verification.replay import Microbatches, Replay, Walk

logger = logging.getLogger("distbp")

Kind = Literal["network", "state", "cut", "microbatch", "update", "record"]


@dataclass(frozen=True)
class Parting:
    """Where two runs part. step: after it their parameters differ.

    kind says what differs first: the tensors' names or shapes, the state before the step, how the batch is cut, a
    microbatch, the update that follows from equal microbatches, or nothing that can be computed here: then a run's
    record is of something else than its recipe.
    microbatch: counted from 0, of `num_microbatches`; None of other kinds. tensors: the names of those that differ,
    in the order of the flat vector. matches_a, matches_b: whether the step computed here is, bit by bit, the one that
    the run's log tells of; None where it was not computed. kernels_a, kernels_b: with what the runs were computed.
    """

    step: int
    kind: Kind
    num_microbatches: int = 0
    microbatch: int | None = None
    tensors: tuple[str, ...] = ()
    matches_a: bool | None = None
    matches_b: bool | None = None
    kernels_a: str = ""
    kernels_b: str = ""


def find_parting(run_a: str, run_b: str, step: int) -> Parting:
    """Return where two runs part in `step`, the first whose checksums differ in their logs.

    It computes again, for each run, the steps from its newest checkpoint before that one, or all from the beginning.

    Raises DataError or CheckpointError where a run's data or what it started from is missing, or is not what it was,
    and ConfigError for runs in rounds: there the logs name the replica.
    """
    a, b = _Side(run_a, step), _Side(run_b, step)
    before = a.before, b.before
    if a.layout.entries != b.layout.entries:
        return Parting(step, "network", tensors=_other_entries(a.layout, b.layout))
    changed = _compare_states(a, b, *before)
    if changed:
        return Parting(step, "state", tensors=changed)
    with a.microbatches() as ours, b.microbatches() as theirs:
        if ours.cut != theirs.cut:
            return Parting(step, "cut", len(ours))
        found = _first_unlike(a.layout, ours, theirs)
        count = len(ours)
    after = a.after, b.after
    kind: Kind = "microbatch" if found else "update"
    number, tensors = found or (None, _unlike(a.layout, after[0].parameters, after[1].parameters))
    return Parting(
        step, kind if tensors else "record", count, number,
        tensors or _compare_stored(a, b, step), a.matches, b.matches, a.kernels, b.kernels,
    )  # fmt: skip


class _Side:
    """One of the two runs, walked up to the step in question and one step further."""

    def __init__(self, url: str, step: int) -> None:
        self.run = RunDirectory.open(url)
        if self.run.read_config().recipe.rounds.steps is not None:
            raise ConfigError(
                f"'{self.run.url}' was trained in rounds, within which nothing else can be computed again by itself"
            )
        self.replay = Replay(self.run)
        self.layout: Layout = self.replay.plan.layout
        self.kernels = describe_kernels(self.run.read_numerics())
        self._records = {record.step: record for record in self.run.read_steps()}
        start = self.replay.start_for(step - 1)
        logger.info("computing steps %d to %d of '%s' again", start.step + 1, step, self.run.url)
        with Walk(self.replay.plan, start) as walk:
            for report in walk.to(step - 1):
                self._expect(self._records.get(report.step), report.checksum)
            self.before = walk.state
            (last,) = walk.to(step)
            self.after = walk.state
        self.matches = self._records[step].checksum == last.checksum

    @contextmanager
    def microbatches(self) -> Iterator[Microbatches]:
        with Microbatches(self.replay.plan, self.before) as found:
            yield found

    def _expect(self, record: StepRecord | None, checksum: str) -> None:
        if record is not None and record.checksum != checksum:
            raise CheckpointError(
                f"step {record.step} of '{self.run.url}', which both runs have alike, comes out otherwise here: this "
                f"machine computes other bits (the run was computed by {self.kernels}), or the run was changed; "
                "try it where the run was trained"
            )


def _compare_states(a: _Side, b: _Side, ours: TrainState, theirs: TrainState) -> tuple[str, ...]:
    """Return the names of what differs before the step: parameters, then moments of both that have the same name."""
    changed = _unlike(a.layout, ours.parameters, theirs.parameters)
    names = [MOMENTS[side.replay.plan.recipe.optimizer.kind] for side in (a, b)]
    if changed or names[0] != names[1]:
        return changed
    for name, moment, other in zip(names[0], ours.moments, theirs.moments, strict=True):
        changed += tuple(f"{name} of {tensor}" for tensor in _unlike(a.layout, moment, other))
    return changed


def _first_unlike(layout: Layout, ours: Microbatches, theirs: Microbatches) -> tuple[int, tuple[str, ...]] | None:
    """Return the first microbatch whose gradient sums differ, and in which tensors."""
    for number in range(len(ours)):
        tensors = _unlike(layout, ours.compute(number).gradient, theirs.compute(number).gradient)
        if tensors:
            return number, tensors
    return None


def _compare_stored(a: _Side, b: _Side, step: int) -> tuple[str, ...]:
    """Return in which tensors the checkpoints of `step` differ; none where not both runs have one."""
    if not all(step in side.replay.store.list_steps() for side in (a, b)):
        return ()
    return _unlike(a.layout, *(side.replay.load(step).parameters for side in (a, b)))


def _unlike(layout: Layout, ours: NDArray, theirs: NDArray) -> tuple[str, ...]:
    """Return the names of the tensors whose bytes differ."""
    pairs = zip(layout.views(ours).items(), layout.views(theirs).values(), strict=True)
    return tuple(name for (name, mine), other in pairs if not _same_bytes(mine, other))


def _same_bytes(ours: NDArray, theirs: NDArray) -> bool:
    is_alike = ours.dtype == theirs.dtype
    return is_alike and np.array_equal(ours.reshape(-1).view(np.uint8), theirs.reshape(-1).view(np.uint8))


def _other_entries(ours: Layout, theirs: Layout) -> tuple[str, ...]:
    """Return the names of tensors that one layout has and the other has not, or has in another shape."""
    names = {entry.name: None for layout in (ours, theirs) for entry in layout.entries}
    shapes = [{entry.name: entry.shape for entry in layout.entries} for layout in (ours, theirs)]
    found = tuple(name for name in names if shapes[0].get(name) != shapes[1].get(name))
    return found or tuple(names)
