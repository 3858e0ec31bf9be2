"""Faults from outside: signals to the processes of a run, which knows nothing of it. Linux only: it reads /proc."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ACTOR = "ray::MemberActor"
"""How the command lines of the run's actors begin, from their constructor on."""

PATIENT_SHARE = 0.7


@dataclass(frozen=True)
class Kind:
    """A kind of fault: the signals that `num_targets` processes get, and how often it is drawn.

    target: of whom: "actor" (a worker, perhaps with a server), "driver", or "raylet" (Ray's process of the node).
    """

    name: str
    weight: int
    signals: tuple[int, ...]
    num_targets: int = 1
    target: str = "actor"


# Further kinds are further lines; whatever a signal to some of a run's processes can do.
OF_A_CLUSTER = (
    Kind("worker or server killed", 45, (signal.SIGKILL,)),
    Kind("two killed at once", 13, (signal.SIGKILL,), num_targets=2),
    Kind("paused for a moment", 13, (signal.SIGSTOP, signal.SIGCONT)),
    Kind("hung", 3, (signal.SIGSTOP,)),
    Kind("preempted", 14, (signal.SIGTERM,)),
    Kind("two preempted at once", 5, (signal.SIGTERM,), num_targets=2),
    Kind("preempted, and killed soon after", 5, (signal.SIGTERM, signal.SIGKILL)),
    Kind("driver killed", 7, (signal.SIGKILL,), target="driver"),
    Kind("driver terminated", 5, (signal.SIGTERM,), target="driver"),
)
KINDS = (*OF_A_CLUSTER, Kind("Ray's raylet killed", 4, (signal.SIGKILL,), target="raylet"))
"""Of a driver with a Ray of its own, which ends with that Ray and is started again."""


class Gremlin:
    """Draws faults and pauses from a seed and inflicts them on a run's processes."""

    def __init__(self, seed: int, kinds: tuple[Kind, ...] = KINDS):
        self._random = random.Random(seed)
        self._kinds = kinds
        self.counts = dict.fromkeys((kind.name for kind in kinds), 0)
        self.drivers_struck_at: list[float] = []  # Unix seconds
        self.num_broken = 0  # how often Ray itself was struck

    @property
    def num_faults(self) -> int:
        """How many faults have really struck."""
        return sum(self.counts.values())

    def pause_s(self, longest: float) -> float:
        """Return for how long to leave the run alone."""
        return self._random.uniform(0.0, longest)

    def is_patient(self) -> bool:
        """Return whether to let the run come to work before the next fault; else it may meet a group being formed."""
        return self._random.random() < PATIENT_SHARE

    def strike(self, driver: int, root: int, is_running: Callable[[], bool]) -> None:
        """Inflict one fault as soon as there are processes for it; none if the run ends before.

        root: the process that Ray's are below: the driver, where Ray is its own.
        """
        (kind,) = self._random.choices(self._kinds, [kind.weight for kind in self._kinds])
        while is_running():
            pids = find_targets(kind.target, driver, root)
            if len(pids) >= kind.num_targets:
                self._strike(kind, self._random.sample(sorted(pids), kind.num_targets))
                return
            time.sleep(0.05)

    def _strike(self, kind: Kind, pids: list[int]) -> None:
        for place, number in enumerate(kind.signals):
            if place:
                time.sleep(self._random.uniform(0.0, 0.5))
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.counts[kind.name] += 1
        self.num_broken += kind.target == "raylet"
        if kind.target != "actor":
            self.drivers_struck_at.append(time.time())


def find_targets(target: str, driver: int, root: int) -> list[int]:
    """Return the processes of one kind that there are now; see Kind."""
    if target == "driver":
        return [driver]
    return actors_below(root) if target == "actor" else raylets_below(root)


def read_stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; [] if the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] == "Z" else fields


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    parents = {int(path.name): read_stat(int(path.name))[1:2] for path in Path("/proc").glob("[0-9]*")}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent and int(parent[0]) in found} - found:
        found |= more
    return found - {pid}


def actors_below(root: int) -> list[int]:
    """The actors of a Ray that a process has started, those that are starting too."""
    return [pid for pid in descendants(root) if _command_line(pid).startswith(ACTOR)]


def raylets_below(root: int) -> list[int]:
    """The processes by which Ray runs a node, of a Ray that a process has started."""
    return [pid for pid in descendants(root) if _command_line(pid).partition("\0")[0].endswith("/raylet")]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def identify(pids: set[int]) -> set[tuple[int, str]]:
    """Processes with their start times, so that a number that is used again is another process."""
    return {(pid, stat[19]) for pid in pids if (stat := read_stat(pid))}


def shared_memory_of(pids: set[int]) -> set[Path]:
    """The files in /dev/shm that these processes map, as far as they still have names."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            found |= {Path(line.split(maxsplit=5)[5]) for line in lines if "/dev/shm/" in line}
    return {path for path in found if path.exists()}
