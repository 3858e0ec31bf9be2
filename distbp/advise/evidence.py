"""A short probe of the user's own data, model and machine: how noisy the gradient is and what steps cost where."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from distbp.advise.advice import (
    Advice,
    Backend,
    Critical,
    Option,
    Placing,
    TunedSteps,
    decide,
    estimate_critical,
    interpolate,
    learning_curve,
)
from distbp.advise.batch_comparison import compare_sizes
from distbp.advise.keeping import Keeping
from distbp.advise.pilot import PilotRun, run_pilot
from distbp.config import Placement, Recipe
from distbp.config.microbatches import ADVISED_EXAMPLES, ADVISED_MICROBATCHES, choose_microbatch_size
from distbp.lab.cost_model import Measured, Setting
from distbp.lab.lab import LabObserver, LabProgress
from distbp.lab.step_times import Group, GroupTimes, time_group
from distbp.lab.trial import plan_for
from distbp.machine.cores import count_cores
from distbp.nn.digests import BLOCK

LEARNING_SHARE, COMPARING_SHARE = 0.2, 0.2
MOST_COMPARED = 1024
WORTH_TIMING = 8.0
"""Batches up to so many times the critical size are timed: there training takes 1.125 times the fewest steps."""
STARTING_S = 2.5
"""About how long a group takes to start on Ray."""
SMALLEST_BATCH, LARGEST_BATCH = 16, 4096


@dataclass(frozen=True)
class Comparison:
    """The fewest steps of tuned trials, for each batch size that was compared and reached the goal."""

    tuned: tuple[TunedSteps, ...]


@dataclass(frozen=True)
class Evidence:
    """What was measured: a pilot run, tuned trials, and the step times of every group and batch size.

    critical: what pilot run and trials say of the critical batch size.
    """

    pilot: PilotRun
    tuned: tuple[TunedSteps, ...]
    critical: Critical
    measured: tuple[tuple[Backend, Measured], ...]
    seconds: float

    @property
    def noise_scale(self) -> float:
        """The noise scale on the way to the goal."""
        return self.pilot.noise_scale


def gather_evidence(
    recipe: Recipe,
    placement: Placement,
    budget_s: float,
    use_ray: bool,
    observe: LabObserver,
    keeping: Keeping,
) -> Evidence:
    """Measure for about `budget_s` seconds. keeping: remembers each measurement that ends, for a session that goes on.

    One process is measured twice before Ray and twice after it, which costs little, and the median counts: processors
    change their clock.
    """
    began = time.perf_counter() - keeping.seconds_spent("pilot") - keeping.seconds_spent("comparison")
    observe(LabProgress("reading the gradient's noise", 0, 1, None))
    pilot = keeping.carry_out("pilot", partial(run_pilot, recipe), LEARNING_SHARE * budget_s, PilotRun)
    observe(LabProgress("comparing batch sizes", 0, 1, None))
    compared = partial(_compare, recipe, pilot)
    tuned = keeping.carry_out("comparison", compared, COMPARING_SHARE * budget_s, Comparison).tuned
    critical = estimate_critical(pilot.noise_scale, tuned)
    measured: list[tuple[Backend, Measured]] = []
    with _cluster(placement, use_ray) as num_cpus:
        groups = _choose_groups(recipe, placement, num_cpus, critical)
        here = [group for group in groups if group.backend == "local"]
        groups = [*here, *groups, *here, *here]
        starting = STARTING_S * sum(group.backend == "ray" for group in groups)
        left = max(0.0, budget_s - (time.perf_counter() - began) - starting)
        for number, group in enumerate(groups):
            observe(LabProgress("timing steps", number, len(groups), None))
            shortened = replace(group, seconds=min(1.0, left / len(groups)))
            timed = keeping.carry_out(_name_group(number, group), time_group, shortened, GroupTimes)
            measured += [(group.backend, m) for m in timed.measured]
    return Evidence(pilot, tuned, critical, medians_of(measured), time.perf_counter() - began)


def medians_of(measured: Iterable[tuple[Backend, Measured]]) -> tuple[tuple[Backend, Measured], ...]:
    """Return the (lower) median measurement of every backend and setting, in the order in which they first occur."""
    found: dict[tuple[Backend, Setting], list[Measured]] = {}
    for backend, one in measured:
        found.setdefault((backend, one.setting), []).append(one)
    return tuple(
        (backend, sorted(several, key=lambda one: one.parts.step_s)[(len(several) - 1) // 2])
        for (backend, _), several in found.items()
    )


def advise(recipe: Recipe, found: Evidence) -> Advice:
    """Return the advice that follows from a probe."""
    placings: dict[Placing, list[Option]] = {}
    for backend, m in found.measured:
        placing = Placing(backend, m.setting.workers, m.setting.servers)
        placings.setdefault(placing, []).append(Option(placing, m.setting.batch_size, m.parts.step_s))
    sizes = [2**power for power in range(31)]
    options = [option for known in placings.values() for option in {*known, *interpolate(known, sizes)}]
    options.sort(key=lambda option: (option.placing.effort, option.batch_size))
    rate = recipe.optimizer.learning_rate
    return decide(options, found.critical, recipe.global_batch_size, found.pilot.goal_steps, rate)


def compare(recipe: Recipe, pilot: PilotRun, seconds: float) -> tuple[TunedSteps, ...]:
    """Return tuned steps to the goal at a few batch sizes; () without a goal, or where a trial would take too long."""
    sizes = [size for size in choose_batch_sizes(len(plan_for(recipe).worker.train)) if size <= MOST_COMPARED]
    if pilot.goal is None or 2 * len(sizes) * pilot.goal_s > seconds:
        return ()
    expected = learning_curve(estimate_critical(pilot.noise_scale), recipe.global_batch_size, pilot.goal_steps)
    return compare_sizes(recipe, pilot.goal, expected, sizes, seconds)


def _compare(recipe: Recipe, pilot: PilotRun, seconds: float) -> Comparison:
    return Comparison(compare(recipe, pilot, seconds))


def _name_group(number: int, group: Group) -> str:
    """Return the key of a group's times; the same group is timed several times."""
    return f"times/{number}/{group.backend}-{group.workers}-{group.servers}-{group.batch_sizes[0]}"


def choose_microbatch(batch_size: int, workers: int) -> int:
    """Return the microbatch that is advised: 4 in a batch, or one for every worker, but not below 16 examples."""
    return choose_microbatch_size(batch_size, max(ADVISED_MICROBATCHES, workers), ADVISED_EXAMPLES)


def with_choice(recipe: Recipe, batch_size: int, workers: int) -> Recipe:
    """Return the recipe with another batch size and the microbatch that goes with it."""
    microbatch_size = choose_microbatch(batch_size, workers)
    return recipe.model_copy(update={"global_batch_size": batch_size, "microbatch_size": microbatch_size})


def choose_placings(num_parameters: int, num_cpus: int | None) -> list[Placing]:
    """Return where to measure: one process with 1, 2, ... workers, and Ray with up to `num_cpus`; None: no Ray."""
    found = [Placing("local", workers, 1) for workers in _doubling(count_cores())]
    for workers in _doubling(num_cpus or 0):
        most = min(workers, -(-num_parameters // BLOCK))
        found += [Placing("ray", workers, servers) for servers in sorted({1, most})]
    return found


def choose_batch_sizes(num_examples: int) -> tuple[int, ...]:
    """Return the batch sizes to measure: 16, 64, 256, ..., no more than a quarter of the examples."""
    largest = max(SMALLEST_BATCH, min(LARGEST_BATCH, num_examples // 4))
    sizes = [size for size in (SMALLEST_BATCH * 4**power for power in range(5)) if size <= largest]
    return tuple(min(size, num_examples) for size in sizes)


def choose_timed_sizes(num_examples: int, critical: Critical) -> tuple[int, ...]:
    """Return the batch sizes whose steps are timed: those that may pay, and no fewer than two."""
    sizes = choose_batch_sizes(num_examples)
    return tuple(size for i, size in enumerate(sizes) if i < 2 or size <= WORTH_TIMING * critical.batch_size)


def _choose_groups(recipe: Recipe, placement: Placement, num_cpus: int | None, critical: Critical) -> list[Group]:
    """Return a group for every placing and batch size: the microbatch, which a group keeps, goes with the batch."""
    plan = plan_for(recipe)
    return [
        Group(
            with_choice(recipe, size, placing.workers), placing.backend, placing.workers, placing.servers, (size,), 0.5,
            placement.address, None,
        )
        for placing in choose_placings(plan.layout.num_parameters, num_cpus)
        for size in choose_timed_sizes(len(plan.worker.train), critical)
    ]  # fmt: skip


def _doubling(most: int) -> list[int]:
    """Return 1, 2, 4, ... and `most`."""
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), *([most] if most else [])})


@contextmanager
def _cluster(placement: Placement, use_ray: bool) -> Iterator[int | None]:
    """Yield how many CPUs Ray has, holding one cluster for all groups; None without Ray."""
    if not use_ray:
        yield None
        return
    from distbp.backends.ray.cluster import RayCluster, count_cpus

    cluster = RayCluster(placement.address, count_cores())
    try:
        yield count_cpus()
    finally:
        cluster.close()
