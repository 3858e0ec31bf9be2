"""What the driver asks of a backend. It hands over orders and gets reports, never a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from distbp.nn.model import Sums
from distbp.protocol.messages import Evaluation, ServerTask, Snapshot, StepOrder, StepReport, TrainState, WorkerTask
from distbp.protocol.planning import num_microbatches
from distbp.protocol.supply import EVALUATION_CHUNK

Abandon = Callable[[], bool]


def never() -> bool:
    """Stand for what never gives a round up."""
    return False


@dataclass(frozen=True)
class Note:
    """Something that happened to a group; `text` is for people.

    kind: "joined", "lost", "refused", "shards", "leaving" (somebody will be gone soon), "left" (and has left in time).
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Process:
    """One process of a group: a worker, and perhaps a parameter server too."""

    host: str
    pid: int
    is_server: bool


@dataclass(frozen=True)
class Shortage:
    """There are `num_workers`, fewer than the `minimum` that was asked for. hint: what may be the reason."""

    num_workers: int
    minimum: int
    hint: str


class Backend(Protocol):
    """A group of workers and a parameter server.

    Every method may raise GroupLostError; after it, only `rescue`, `start` and `close` are allowed.
    """

    @property
    def num_workers(self) -> int:
        """How many workers the group has."""
        ...

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes of the group by rank; none when all happens in this one."""
        ...

    def admit(self) -> bool:
        """Let workers in that have started since; returns whether the run should pause between two steps.

        Either a new `start` would give a better group, larger or without those that will be gone soon; or there is a
        `departure`.
        """
        ...

    def departure(self) -> str | None:
        """Return why this process, the driver's, will be gone soon; None while nobody has said so."""
        ...

    def start(self, worker: WorkerTask, server: ServerTask, state: TrainState, minimum: int = 1) -> Shortage | None:
        """Build a group of all workers that are there, to go on from `state`; living ones of the last group are kept.

        Returns what is lacking if fewer than `minimum` are there after about a second; then call it again.
        Raises ClusterError or NumericsError if there can be no group.
        """
        ...

    def run(self, orders: Iterator[StepOrder], abandon: Abandon = never) -> Iterator[StepReport]:
        """Carry out consecutive steps or rounds and yield the reports of all steps in order.

        Orders may be drawn ahead of the reports; every order drawn is reported. Ends early when the run should pause.
        abandon: is asked again and again during a round whether to give it up.

        Raises RoundAbandonedError where it was; then `rescue` has the state before that round.
        """
        ...

    def take_notes(self) -> list[Note]:
        """Return what has happened to the group since the last call."""
        ...

    def evaluate(self) -> Evaluation:
        """Return loss and accuracy of the current parameters over the validation examples."""
        ...

    def snapshot(self) -> Snapshot:
        """Return a copy of the state after the last reported step."""
        ...

    def rescue(self) -> Snapshot | None:
        """Return the newest state of a lost group, or of an abandoned round, if its server still answers, else None."""
        ...

    def close(self) -> None:
        """End every process and thread of the group; harmless when repeated."""
        ...


def num_evaluation_chunks(worker: WorkerTask) -> int:
    """Return how many chunks the validation examples are cut into."""
    return num_microbatches(len(worker.validation), EVALUATION_CHUNK) if worker.validation is not None else 0


def summarize(chunks: list[Sums], is_classification: bool) -> Evaluation:
    """Return the averages over all chunks, which must be in order: the order of addition is fixed."""
    num_examples = sum(chunk.num_examples for chunk in chunks)
    loss = 0.0
    for chunk in chunks:
        loss += chunk.loss
    num_answers = sum(chunk.num_answers for chunk in chunks)
    accuracy = sum(chunk.correct for chunk in chunks) / (num_answers or 1.0) if is_classification else None
    return Evaluation(loss / (sum(chunk.divisor for chunk in chunks) or 1.0), accuracy, num_examples)


def join_reports(reports: Sequence[StepReport]) -> StepReport:
    """Return one report for a step from those of the servers of all slices."""
    checksum = sum(int(report.checksum, 16) for report in reports) % (1 << 64)
    return replace(reports[0], checksum=f"{checksum:016x}", commit_s=max(report.commit_s for report in reports))


def join_snapshots(found: Sequence[Snapshot]) -> Snapshot | None:
    """Return the state from all its slices, None if they are of different steps."""
    if len({snapshot.state.step for snapshot in found}) != 1:
        return None
    parameters = np.concatenate([snapshot.state.parameters for snapshot in found])
    moments = tuple(map(np.concatenate, zip(*(snapshot.state.moments for snapshot in found), strict=True)))
    reports = zip(*(snapshot.reports for snapshot in found), strict=True)
    joined = tuple(join_reports(of_step) for of_step in reports)
    return Snapshot(TrainState(found[0].state.step, parameters, moments), joined)
