"""The one seam between the algorithm and where it runs: `base` says what a backend is, `local` and `ray` are two."""

from distbp.backends.base import Backend, Shortage
from distbp.config import Placement

__all__ = ["Backend", "Shortage", "make_backend"]


def make_backend(placement: Placement) -> Backend:
    """Return the backend that `placement` names; connecting to Ray happens here, ray is imported only for it."""
    if placement.backend == "ray":
        from distbp.backends.ray.backend import RayBackend

        return RayBackend(
            placement.max_workers,
            placement.threads_per_worker,
            placement.servers,
            placement.address,
            placement.step_timeout_s,
            placement.min_workers_left,
            placement.server_outlives == "node",
        )
    from distbp.backends.local import LocalBackend

    return LocalBackend(placement.max_workers)
