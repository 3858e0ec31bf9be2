"""How fast each worker is, measured by what it computed, and when new shards are worth it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from distbp.protocol.messages import Effort
from distbp.protocol.planning import paced_shards

FRESHNESS = 0.3
"""Weight of the newest measurement. A worker 10 times slower is noticed at once; 20 % slower only if it lasts."""
FORGIVENESS = 0.9
"""Factor on the pace of a worker that computes nothing, so that it gets another chance."""
SHORTEST_S = 0.01
"""Seconds. A shorter measurement says more about the operating system than about the worker."""
GAIN = 0.85
"""New shards are worth it when a step's computing then takes less than this share of what it takes now."""


@dataclass(frozen=True)
class Pacing:
    """The paces of all workers, in seconds per microbatch.

    seen: as measured; None before a worker computed one. planned: those by which the shards were made.
    """

    seen: tuple[float | None, ...]
    planned: tuple[float, ...]

    @classmethod
    def of_equals(cls, num_workers: int) -> Self:
        """Return the pacing of workers about which nothing is known: all are equal."""
        return cls((None,) * num_workers, (1.0,) * num_workers)

    def after(self, efforts: Sequence[Effort]) -> Self:
        """Return the pacing with the newest measurement of each worker; the plan stays."""
        return replace(self, seen=tuple(map(_update, self.seen, efforts)))

    def replanned(self, num_microbatches: int) -> Self:
        """Return the pacing with a new plan for a batch of so many microbatches; itself if that gains little."""
        known = [pace for pace in self.seen if pace is not None]
        if not known:
            return self
        paces = tuple(max(known) if pace is None else pace for pace in self.seen)
        if _compute_s(num_microbatches, paces, paces) < GAIN * _compute_s(num_microbatches, self.planned, paces):
            return replace(self, planned=paces)
        return self


def _update(seen: float | None, effort: Effort) -> float | None:
    if effort.num_microbatches == 0:
        return None if seen is None else seen * FORGIVENESS
    if effort.compute_s < SHORTEST_S:
        return seen
    newest = effort.compute_s / effort.num_microbatches
    return newest if seen is None else (1 - FRESHNESS) * seen + FRESHNESS * newest


def _compute_s(count: int, planned: tuple[float, ...], paces: tuple[float, ...]) -> float:
    """Return the seconds until the last worker has computed, with shards as planned and workers of these paces."""
    shards = paced_shards(count, planned)
    return max(len(shard) * pace for shard, pace in zip(shards, paces, strict=True))
