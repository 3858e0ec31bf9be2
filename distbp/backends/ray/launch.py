"""Launching the actors of a run: what each is made of, and how the training arrays reach it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from distbp.backends.ray.actors import CONTROL, MappedFile, MemberActor
from distbp.backends.ray.cluster import same_kernels
from distbp.backends.ray.placement import Reservation
from distbp.protocol.examples import Examples
from distbp.protocol.messages import WorkerTask
from distbp.protocol.supply import Supply


class ActorMaker:
    """Makes the actor for a slot of the pool; the task's arrays are put into the object store once."""

    def __init__(self, task: WorkerTask, reservation: Reservation):
        self._arrays = _share(task.train) + _share(task.validation)
        self._task = _without_arrays(task)
        self._reservation = reservation
        self._actor = ray.remote(max_restarts=0, concurrency_groups={CONTROL: 1})(MemberActor)
        self._environment = same_kernels()

    def make(self, slot: int) -> Any:
        """Return a new actor, which Ray starts as soon as there is place for it."""
        options = {**self._reservation.options(slot), **self._environment}
        return self._actor.options(**options).remote(self._task, *self._arrays)


def _share(examples: Examples | Supply | None) -> list[Any]:
    """Put the arrays into the object store once; every node holds one copy, memory-mapped files none."""
    if not isinstance(examples, Examples):
        return []
    weights = np.empty(0) if examples.weights is None else examples.weights
    return [_share_array(array) for array in (examples.x, examples.y, examples.rows, weights)]


def _share_array(array: NDArray) -> Any:
    if isinstance(array, np.memmap) and array.filename is not None:
        return MappedFile(str(array.filename), array.shape)
    return ray.put(array)


def _without_arrays(task: WorkerTask) -> WorkerTask:
    """Return the task with empty arrays, which travel apart."""
    validation = None if task.validation is None else _empty(task.validation)
    return replace(task, train=_empty(task.train), validation=validation)


def _empty(examples: Examples | Supply) -> Examples | Supply:
    none = np.empty(0, np.int64)
    return replace(examples, x=none, y=none, rows=none, weights=None) if isinstance(examples, Examples) else examples
