"""Who takes the first look at data in blocks: this process, or a cluster that is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from distbp.config import Config
from distbp.data import is_in_blocks
from distbp.data.blocks.look import Mapper
from distbp.machine.cores import count_cores

PRIVATE = "local"
"""The address of a Ray that is started for this run, on this machine: its threads look as fast."""


@contextmanager
def open_mapper(config: Config) -> Iterator[Mapper | None]:
    """Yield what has data in blocks looked at by all CPUs of a cluster that is there; None where this process does."""
    placement = config.placement
    address = placement.address or os.environ.get("RAY_ADDRESS") or PRIVATE
    if placement.backend != "ray" or address == PRIVATE or not is_in_blocks(config.recipe.data.source):
        yield None
        return
    from distbp.backends.ray.tasks import RayTasks  # ray is imported only where it is used

    with RayTasks(placement.address, count_cores()) as tasks:
        yield tasks.map
