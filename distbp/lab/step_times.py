"""Step times of a whole group of workers and servers, in parts, as its own servers report them."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from distbp.backends import Backend, make_backend
from distbp.config import Placement, Recipe
from distbp.errors import ClusterError, WorkersLostError
from distbp.lab.cost_model import Measured, Setting, StepParts
from distbp.lab.trial import plan_for
from distbp.protocol.messages import StepOrder, StepReport
from distbp.protocol.planning import choose_slices, num_microbatches
from distbp.protocol.recovery import GroupLostError
from distbp.training.plan import Plan

WARMING_UP = 4
MIN_STEPS, MAX_STEPS = 8, 400
START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Group:
    """What to measure: the recipe's model and microbatches, in these places, at each of `batch_sizes`.

    seconds: to spend on each batch size. cores: that the workers share; None where each has its own.
    """

    recipe: Recipe
    backend: Literal["local", "ray"]
    workers: int
    servers: int
    batch_sizes: tuple[int, ...]
    seconds: float
    address: str | None
    cores: int | None


@dataclass(frozen=True)
class GroupTimes:
    """One measurement for each batch size."""

    measured: tuple[Measured, ...]


def time_group(group: Group) -> GroupTimes:
    """Start the group, time its steps at every batch size, and end it. A Ray cluster is joined if there is one."""
    plan = plan_for(group.recipe)
    placement = Placement(backend=group.backend, workers=group.workers, servers=group.servers, address=group.address)
    num_parameters = plan.layout.num_parameters
    servers = len(choose_slices(group.servers, num_parameters, group.workers))
    backend = make_backend(placement)
    try:
        _start(backend, plan, group.workers)
        steps = itertools.count()
        found = [
            Measured(
                Setting(group.workers, servers, num_parameters, size, group.recipe.microbatch_size, group.cores),
                _time_steps(backend, _orders(steps, size, group.recipe.microbatch_size), group.seconds),
            )
            for size in group.batch_sizes
        ]
    except GroupLostError as error:
        raise WorkersLostError(f"{error.reason}, while step times were measured; run the same command again") from None
    finally:
        backend.close()
    return GroupTimes(tuple(found))


def _start(backend: Backend, plan: Plan, num_workers: int) -> None:
    """Start the group with all its workers. Raises ClusterError if they are not there within two minutes."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while shortage := backend.start(plan.worker, plan.server, plan.initial_state(), minimum=num_workers):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"only {shortage.num_workers} of {num_workers} workers started within {START_TIMEOUT_S:.0f} s: "
                f"{shortage.hint}; use fewer workers or a larger cluster"
            )


def _time_steps(backend: Backend, orders: Iterator[StepOrder], seconds: float) -> StepParts:
    """Return the median of each part; the first steps only tell how many there is time for."""
    began = time.perf_counter()
    list(backend.run(itertools.islice(orders, WARMING_UP)))
    once = (time.perf_counter() - began) / WARMING_UP
    count = max(MIN_STEPS, min(MAX_STEPS, round(seconds / once)))
    return summarize_reports(list(backend.run(itertools.islice(orders, count)))[1:])


def summarize_reports(reports: list[StepReport]) -> StepParts:
    """Return the medians over steps. wait_s is all that is neither the slowest worker's computing nor the commit."""
    return StepParts(
        compute_s=statistics.median(report.mean_compute_s for report in reports),
        waiting_s=statistics.median(report.compute_s - report.mean_compute_s for report in reports),
        transfer_s=statistics.median(report.wait_s for report in reports),
        commit_s=statistics.median(report.commit_s for report in reports),
    )


def _orders(steps: Iterator[int], batch_size: int, microbatch_size: int) -> Iterator[StepOrder]:
    """Yield steps over the same examples, at a rate at which nothing diverges, without end."""
    count = num_microbatches(batch_size, microbatch_size)
    return (StepOrder(step, 0, 0, batch_size, 1e-9, count) for step in steps)
