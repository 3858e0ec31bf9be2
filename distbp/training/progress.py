"""What an observer of a run sees, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from distbp.protocol.messages import StepReport
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
