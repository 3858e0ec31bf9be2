"""A Ray on this machine that outlives the drivers which use it, as a cluster does. It ends with this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from distbp.backends.ray.cluster import RayCluster


@contextmanager
def shared_ray(num_cpus: int) -> Iterator[str]:
    """Yield the address of a Ray with so many CPUs, which other processes of this user can join."""
    cluster = RayCluster("local", num_cpus)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        cluster.close()
