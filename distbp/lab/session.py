"""One session of a study: its folder, its processes and its way to stop, all closed in whatever way it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distbp.config import Placement
from distbp.lab.executor import Executor, LocalProcesses
from distbp.lab.lab import Lab, LabObserver
from distbp.lab.store import Store
from distbp.machine.cores import count_cores
from distbp.machine.interrupt import stop_on_signals


@contextmanager
def open_lab(folder: Path, identity: Mapping[str, Any], placement: Placement, observe: LabObserver) -> Iterator[Lab]:
    """Yield a lab over `folder`, with trials in local processes or, for placement.backend ray, on a Ray cluster.

    identity: what must not change between the sessions of one study.

    Raises ConfigError if the folder holds another study, StorageError if it cannot be written.
    """
    with Store(folder, identity) as store, stop_on_signals() as stop:
        with stop.at_once("stopped before its processes were ready; the same command goes on"):
            made = make_executor(placement)
        with made as executor:
            stop.listen()
            yield Lab(store, executor, stop, observe)


def make_executor(placement: Placement) -> Executor:
    """Return where trials run: one process for each core of this machine, or tasks on Ray."""
    if placement.backend == "ray":
        from distbp.backends.ray.tasks import RayTasks

        return RayTasks(placement.address, count_cores())
    return LocalProcesses(count_cores())
