"""Calls as Ray tasks, one for each CPU of a cluster: for work that needs no group of workers, such as trials."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import ray
from ray.exceptions import RayTaskError

from distbp.backends.ray.cluster import RayCluster, count_cpus, same_kernels
from distbp.backends.ray.private_cluster import check_alive, find_dead
from distbp.errors import DistbpError
from distbp.nn.blas import one_blas_thread
from distbp.nn.build import find_user_folders, importable

A = TypeVar("A")
B = TypeVar("B")
POLL_S = 1.0


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

    def map(self, call: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield call(item) in the order of the items; a few more than there are CPUs are under way at a time.

        Raises whatever DistbpError a call raised.
        """
        under_way: deque[Future[B]] = deque()
        for item in items:
            under_way.append(self.submit(call, item))
            if len(under_way) > 2 * self.size:
                yield self._await(under_way.popleft())
        while under_way:
            yield self._await(under_way.popleft())

    def _await(self, future: Future[B]) -> B:
        while True:
            self.check()
            try:
                return future.result(POLL_S)
            except TimeoutError:
                continue
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, DistbpError) else error from None

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
