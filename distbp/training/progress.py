"""What an observer of a run sees, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from distbp.protocol.messages import StepReport, TrainState
from distbp.run.position import Position


@dataclass(frozen=True)
class Progress:
    """What an observer of a run sees after each step.

    run: its name. num_workers: in the group now. num_lost: workers lost in this session.
    """

    position: Position
    report: StepReport
    num_steps: int
    num_epochs: int
    run: str
    num_workers: int
    num_lost: int


Observer = Callable[[Progress], None]


@runtime_checkable
class Finisher(Protocol):
    """An observer that also wants to see how a run ended."""

    def finish(self, progress: Progress) -> None:
        """Take in the end of the run: like its last step, with the last evaluation."""
        ...


@runtime_checkable
class EpochWatcher(Protocol):
    """An observer that also wants to see each epoch's end, and may end the run there."""

    def end_epoch(self, progress: Progress, take_state: Callable[[], TrainState]) -> bool:
        """Take in the end of an epoch, evaluated; return whether the run is to end here.

        take_state: gives the parameters and moments as they are now, and costs a copy of them.
        """
        ...
