"""What a driver's processes leave behind: they are noted while they live, and looked for afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import gremlin

LEFT_TIMEOUT_S = 30.0


class ChaosError(Exception):
    """A run ended otherwise than undisturbed, or left something behind."""


@dataclass
class Traces:
    """What processes of a run were seen to be and to have: numbers with start times, and shared memory."""

    processes: set[tuple[int, str]] = field(default_factory=set)
    shared_memory: set[Path] = field(default_factory=set)

    def look(self, pids: Iterable[int]) -> None:
        """Take note of the processes that there are now."""
        new = gremlin.identify(set(pids)) - self.processes
        self.processes |= new
        self.shared_memory |= gremlin.shared_memory_of({pid for pid, _ in new})

    def left(self) -> list[str]:
        """Return what is still there."""
        alive = self.processes & gremlin.identify({pid for pid, _ in self.processes})
        files = [path for path in self.shared_memory if path.exists()]
        return [*(f"process {pid}" for pid, _ in alive), *(f"shared memory {path}" for path in files)]


def expect_gone(seen: Traces, temp_dir: Path) -> None:
    """Wait until nothing is left of a driver's processes, shared memory and temporary files. Raises ChaosError."""
    deadline = time.monotonic() + LEFT_TIMEOUT_S
    while left := [*seen.left(), *(f"file {path.name}" for path in temp_dir.iterdir())]:
        if time.monotonic() > deadline:
            raise ChaosError(f"left behind: {', '.join(left)}")
        time.sleep(0.1)
