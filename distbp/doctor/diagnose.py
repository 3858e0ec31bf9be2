"""From a configuration to findings: look, try, ask, and judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distbp.config import Config
from distbp.data import PreparedData, prepare
from distbp.doctor.cluster_checks import (
    ClusterNode,
    check_alike,
    check_authentication,
    check_clocks,
    check_cluster,
    check_kernels,
    check_shared,
    describe_versions,
)
from distbp.doctor.data_checks import check_data
from distbp.doctor.demand import Demand
from distbp.doctor.encryption import check_encryption
from distbp.doctor.findings import Finding, block, ok
from distbp.doctor.machine_checks import check_blas, check_cores, check_memory, check_storage
from distbp.doctor.node import NodeFacts, examine_node, weigh_portable_kernels
from distbp.doctor.storage_trial import StorageFacts, try_storage
from distbp.errors import ClusterError, ConfigError
from distbp.nn.kernels import expect_portable
from distbp.protocol.examples import Examples
from distbp.protocol.planning import num_microbatches
from distbp.training.plan import Plan, make_plan


@dataclass(frozen=True)
class Diagnosis:
    """All findings about one configuration on this machine, or on the cluster that it names."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """What a run would end with for the first problem, 0 if there is none."""
        return next((finding.exit_code for finding in self.findings if finding.level == "problem"), 0)


def diagnose(config: Config) -> Diagnosis:
    """Return what this machine, or with backend ray its cluster, will do to a run of `config`.

    Storage gets a folder for the moment, the cluster one short task a node; nothing is left behind.

    Raises ConfigError or DataError where the run itself would.
    """
    if config.placement.portable:
        expect_portable()
    plan, data = _prepare(config)
    demand = _describe_demand(config, plan, data)
    with try_storage(config.placement.storage) as storage:
        here = examine_node(storage.url, storage.mark, plan.worker.model)
        findings = [
            ok("run", plan.describe()),
            ok("this process", describe_versions(here)),
            *check_blas(here, config.placement.portable),
        ]
        findings += check_storage(storage, demand)
        findings += check_data(plan, data, here.gflops, config.placement.threads_per_worker)
        if config.placement.backend == "local":
            findings += [*check_cores(here, demand), *check_memory(here, demand)]
        else:
            findings += _check_ray(config, plan, here, storage, demand)
    return Diagnosis(tuple(findings))


def _prepare(config: Config) -> tuple[Plan, PreparedData]:
    data = prepare(config.recipe.data, config.recipe.seed)
    plan = make_plan(config, data)
    plan.check_model()
    return plan, data


def _describe_demand(config: Config, plan: Plan, data: PreparedData) -> Demand:
    placement, recipe = config.placement, config.recipe
    return Demand(
        max_workers=placement.max_workers,
        min_workers=placement.min_workers,
        threads=placement.threads_per_worker,
        parameter_bytes=plan.layout.num_parameters * np.dtype(recipe.dtype).itemsize,
        array_bytes=_count_bytes(data),
        num_microbatches=num_microbatches(recipe.global_batch_size, recipe.microbatch_size),
        keep_checkpoints=placement.keep_checkpoints,
    )


def _count_bytes(data: PreparedData) -> int:
    """Return the bytes of all arrays in memory; parts split from one source share theirs."""
    parts = [part for part in (data.train, data.validation) if isinstance(part, Examples)]
    arrays = {id(array): array for part in parts for array in (part.x, part.y, part.rows)}
    return sum(array.nbytes for array in arrays.values() if not isinstance(array, np.memmap))


def _check_ray(config: Config, plan: Plan, here: NodeFacts, storage: StorageFacts, demand: Demand) -> Iterator[Finding]:
    from distbp.backends.ray.survey import survey  # ray is imported only where it is used

    placement = config.placement
    num_cpus = demand.max_workers * demand.threads
    try:
        found = survey(placement.address, num_cpus, examine_node, storage.url, storage.mark, plan.worker.model)
    except (ClusterError, ConfigError) as error:
        yield block("cluster", str(error), "or train with --backend local, which needs no cluster", error.exit_code)
        return
    nodes = [
        ClusterNode(a.address, a.num_cpus, a.object_store_bytes, a.facts, a.error, a.skew_s) for a in found.answers
    ]
    if found.is_private:
        yield from check_cores(here, demand)
    yield from check_cluster(nodes, demand)
    yield from check_alike(here, nodes, uses_torch=config.recipe.model.torch is not None)
    yield from check_kernels(here, nodes, config.placement.portable, weigh_portable_kernels)
    yield from check_shared(storage, nodes)
    yield from check_clocks(nodes)
    yield check_authentication(found.asks_for_token, found.is_private)
    yield check_encryption({n.address: n.facts.encryption for n in nodes if n.facts is not None}, found.is_private)
