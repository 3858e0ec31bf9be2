"""What a sitting of chaos has shown, as figures that can be written, read again, and added up over several sittings."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self


@dataclass
class Figures:
    """Of runs that ended with the digest of the undisturbed run, and left nothing behind.

    faults: how often each kind of fault struck. num_in_time: workers that left before their end, having heard of it.
    recovery_s: from the last step before a loss to the first one after it. restart_s: from a blow to a driver to the
    next driver's formed group. seconds: that the sitting took.
    """

    faults: dict[str, int] = field(default_factory=dict)
    num_runs: int = 0
    num_in_time: int = 0
    recovery_s: list[float] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_faults(self) -> int:
        """Faults of all kinds."""
        return sum(self.faults.values())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what `write` wrote."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Write a JSON document, whole or not at all."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(json.dumps(asdict(self), indent=1))
        fresh.replace(path)

    def describe(self) -> str:
        """Return what to quote."""
        kinds = "".join(f"\n  {count:5d}  {name}" for name, count in self.faults.items() if count)
        return (
            f"{self.num_faults} faults in {self.num_runs} runs, {self.seconds:.0f} s: all digests equal, nothing left"
            f"{kinds}\nworkers that left in time: {self.num_in_time}"
            + describe_times("recoveries of a group", self.recovery_s)
            + describe_times("new drivers, from the blow to a formed group", self.restart_s)
        )


def add_up(parts: Iterable[Figures]) -> Figures:
    """Return the figures of several sittings as if they were one."""
    total, counts = Figures(), Counter[str]()
    for part in parts:
        counts.update(part.faults)
        total.num_runs += part.num_runs
        total.num_in_time += part.num_in_time
        total.recovery_s += part.recovery_s
        total.restart_s += part.restart_s
        total.seconds += part.seconds
    total.faults = dict(counts)
    return total


def describe_times(what: str, seconds: list[float]) -> str:
    """Return number, median, 95th percentile and longest; '' for none."""
    if not seconds:
        return ""
    times = sorted(seconds)
    high = times[math.ceil(0.95 * len(times)) - 1]
    middle = statistics.median(times)
    return f"\n{len(times)} {what}: median {middle:.2f} s, 95 % {high:.2f} s, longest {times[-1]:.2f} s"
