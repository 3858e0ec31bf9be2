"""What a run will need, in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from distbp.doctor.findings import Finding, ok, warn


@dataclass(frozen=True)
class Demand:
    """The run in question. array_bytes: of data in workers' memory, without memory-mapped files.

    num_microbatches: of a whole batch. max_workers, threads: as in the placement.
    """

    max_workers: int
    min_workers: int
    threads: int
    parameter_bytes: int
    array_bytes: int
    num_microbatches: int
    keep_checkpoints: int

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint on storage."""
        return 2 * self.parameter_bytes  # and the velocity

    def worker_bytes(self, num_workers: int) -> int:
        """Return about how much memory `num_workers` workers on one node take, beside the data."""
        shard = max(1, math.ceil(self.num_microbatches / self.max_workers))
        gradients = self.threads * (1 + math.ceil(math.log2(shard + 1)))
        return self.parameter_bytes * (1 + num_workers * (gradients + 2))


def compare_memory(topic: str, need: int, available: int | None, what: str) -> Finding:
    """Return whether `need` bytes are available. available: None if it is not known. what: they are for."""
    if available is None:
        return ok(topic, f"about {describe_size(need)} for {what}; this system does not tell how much there is")
    fact = f"about {describe_size(need)} for {what}, of {describe_size(available)} available"
    if need > available:
        return warn(topic, fact, "use fewer workers, a smaller model, or data in a .npy pair, which is mapped")
    return ok(topic, fact)


def describe_size(num_bytes: float) -> str:
    """Return 12 kB, 3.4 MB, 5.6 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{math.ceil(num_bytes / 1e3)} kB"
