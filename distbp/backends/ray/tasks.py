"""Calls as Ray tasks, one for each CPU of a cluster: for work that needs no group of workers, such as trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self

import ray

from distbp.backends.ray.cluster import RayCluster, count_cpus, same_kernels
from distbp.backends.ray.private_cluster import check_alive, find_dead
from distbp.nn.blas import one_blas_thread
from distbp.nn.build import find_user_folders, importable


class RayTasks:
    """Runs calls on a cluster, or on a private one that ends with this object."""

    def __init__(self, address: str | None, num_cpus: int):
        """Connect. num_cpus: of a private cluster, where there is no other."""
        self._cluster = RayCluster(address, num_cpus)
        self.size = count_cpus()
        self._task = ray.remote(num_cpus=1, max_retries=3, **same_kernels())(_call)
        self._references: dict[Future[Any], Any] = {}

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin call(*arguments) on the cluster."""
        reference = self._task.remote(find_user_folders(), call, *arguments)
        future: Future[Any] = reference.future()
        self._references[future] = reference
        future.add_done_callback(lambda done: self._references.pop(done, None))
        return future

    def check(self) -> None:
        """Raise ClusterError if a private Ray has broken down: its tasks would be waited for without end."""
        check_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if find_dead() is None:
            for reference in list(self._references.values()):
                ray.cancel(reference, force=True)
        self._cluster.close()


def _call(folders: Sequence[str], call: Callable[..., Any], *arguments: Any) -> Any:
    with importable(folders), one_blas_thread():
        return call(*arguments)
