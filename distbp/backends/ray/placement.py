"""Room for a run's actors on a Ray cluster: for all of them or for none, and waiting in line for it.

Runs that took their actors one by one could each hold half of a cluster and wait for the other half for ever. A
placement group is granted whole or not at all, so the run that gets one can finish and make room for the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from distbp.backends.ray.private_cluster import check_alive
from distbp.errors import ClusterError

GROW_TIMEOUT_S = 300.0
"""How long a cluster that is too small may take to grow: an autoscaler needs minutes to start a machine."""
QUIET_S = 2.0
REPEAT_S = 60.0
POLL_S = 1.0

logger = logging.getLogger("distbp")


class Reservation:
    """CPUs for a group of actors, each on one node; held until `release` or the end of the driver."""

    def __init__(self, cpus_per_actor: int, grow_timeout_s: float = GROW_TIMEOUT_S):
        self._cpus = cpus_per_actor
        self._grow_timeout_s = grow_timeout_s
        self._group: PlacementGroup | None = None
        self._num_actors = 0

    @property
    def num_actors(self) -> int:
        """For how many actors room is held."""
        return self._num_actors

    @property
    def is_whole(self) -> bool:
        """Whether room is held, and on nodes that are all alive as far as Ray knows."""
        return self._group is not None and placement_group_table(self._group)["state"] == "CREATED"

    def hold(self, num_actors: int) -> None:
        """Return once there is room for `num_actors`; what is held and fits is kept.

        Room that lost a node is given back first: two runs that each kept the rest of theirs could wait for ever.

        Raises ClusterError if the cluster is too small for it, and stays so.
        """
        if num_actors == self._num_actors and self.is_whole:
            return
        self.release()
        self._group = placement_group([{"CPU": self._cpus}] * num_actors, strategy="PACK")
        self._num_actors = num_actors
        self._wait_in_line(self._group)

    def options(self, index: int) -> dict[str, Any]:
        """Return Ray's options for actor number `index`: a place in what is held, or any place beyond it."""
        if index >= self._num_actors:
            return {"num_cpus": self._cpus}
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
        return {"num_cpus": self._cpus, "scheduling_strategy": strategy}

    def release(self) -> None:
        """Give the room back; actors in it are killed. Harmless when repeated."""
        group, self._group, self._num_actors = self._group, None, 0
        if group is not None:
            remove_placement_group(group)

    def _wait_in_line(self, group: PlacementGroup) -> None:
        """Wait as long as others use the cluster; for one that is too small, only as long as an autoscaler needs."""
        began = time.monotonic()
        fits_since, said_at = began, began - REPEAT_S + QUIET_S
        while not group.wait(timeout_seconds=POLL_S):
            check_alive()
            now = time.monotonic()
            capacity = count_places(ray.nodes(), self._cpus)
            if capacity >= self._num_actors:
                fits_since = now
            elif now - fits_since > self._grow_timeout_s:
                reason = self._describe(capacity)
                self.release()
                raise ClusterError(f"{reason}; use fewer workers or a larger cluster")
            if now - said_at >= REPEAT_S:
                said_at = now
                logger.info("%s", self._explain_wait(capacity))
        if said_at > began:
            logger.info("its turn after %.0f s: the run has its room on the cluster", time.monotonic() - began)

    def _explain_wait(self, capacity: int) -> str:
        if capacity < self._num_actors:
            return f"{self._describe(capacity)}; waiting up to {self._grow_timeout_s:.0f} s for the cluster to grow"
        free, total = (resources.get("CPU", 0) for resources in (ray.available_resources(), ray.cluster_resources()))
        return (
            f"waiting in line: the run takes {self._describe_demand()} together or not at all, and {free:g} of the "
            f"cluster's {total:g} CPUs are free"
        )

    def _describe(self, capacity: int) -> str:
        return f"the run needs {self._describe_demand()} and the cluster has places for {capacity}"

    def _describe_demand(self) -> str:
        workers = "1 worker" if self._num_actors == 1 else f"{self._num_actors} workers"
        return f"{workers} with {self._cpus} CPU{'s' if self._cpus > 1 else ''} each"


def count_places(nodes: Iterable[Mapping[str, Any]], cpus: int) -> int:
    """Return how many actors with `cpus` CPUs each fit on the living ones of `nodes`, as ray.nodes() lists them."""
    return sum(int(node["Resources"].get("CPU", 0) // cpus) for node in nodes if node["Alive"])
