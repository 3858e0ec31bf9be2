"""Judges a cluster: pure functions from what its nodes answered to findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distbp.doctor.demand import Demand, compare_memory, describe_size
from distbp.doctor.findings import Finding, block, ok, warn
from distbp.doctor.node import NodeFacts
from distbp.doctor.storage_trial import StorageFacts
from distbp.errors import ClusterError, NumericsError
from distbp.nn.numerics import describe_kernels, name_kernels

MAX_SKEW_S = 5.0
TORCH_VARIABLES = (
    "; for PyTorch also the same ATEN_CPU_CAPABILITY (avx2), ONEDNN_MAX_CPU_ISA (AVX2) and MKL_CBWR (COMPATIBLE)"
)


@dataclass(frozen=True)
class ClusterNode:
    """A node of the cluster as the checks see it. facts: None if it did not answer, for the reason in `error`."""

    address: str
    num_cpus: float
    object_store_bytes: int
    facts: NodeFacts | None
    error: str | None
    skew_s: float


def check_cluster(nodes: Sequence[ClusterNode], demand: Demand) -> Iterator[Finding]:
    """Yield whether a cluster has nodes that answer, CPUs and memory for the run."""
    for node in nodes:
        if node.facts is None:
            yield block(
                f"node {node.address}",
                f"it does not run distbp: {node.error}",
                "install the same distbp, Python and Ray on every node (distbp submit takes its own code along)",
                ClusterError.exit_code,
            )
    yield _check_cpus(nodes, demand)
    alive = [node for node in nodes if node.facts is not None]
    per_node = math.ceil(demand.max_workers / max(1, len(alive)))
    for node in alive:
        yield from _check_node_memory(node, demand, per_node)


def _check_cpus(nodes: Sequence[ClusterNode], demand: Demand) -> Finding:
    total = sum(node.num_cpus for node in nodes)
    have = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} with {total:g} CPUs"
    least, most = demand.min_workers * demand.threads, demand.max_workers * demand.threads
    if total < least:
        advice = f"use at most workers={int(total) // demand.threads or 1}, or add nodes"
        return block("cluster", f"{have}, and the run needs {least}", advice, ClusterError.exit_code)
    if total < most:
        return warn("cluster", f"{have}, and the run would use {most}", "it starts with what there is and grows")
    return ok("cluster", f"{have} for {most} that the run uses")


def _check_node_memory(node: ClusterNode, demand: Demand, num_workers: int) -> Iterator[Finding]:
    assert node.facts is not None
    name = f"node {node.address}"
    yield compare_memory(f"{name} memory", demand.worker_bytes(num_workers), node.facts.memory_bytes, "its workers")
    if demand.array_bytes > node.object_store_bytes:
        need, have = describe_size(demand.array_bytes), describe_size(node.object_store_bytes)
        yield warn(
            f"{name} object store",
            f"the data take {need} and it has {have}: they would go to disk",
            "start Ray with a larger --object-store-memory, or train from a .npy pair, which is mapped and not copied",
        )


def check_alike(here: NodeFacts, nodes: Sequence[ClusterNode], uses_torch: bool = False) -> Iterator[Finding]:
    """Yield whether all nodes have the software and the arithmetic of this process.

    uses_torch: whether the run's model does.
    """
    alive = [(node, node.facts) for node in nodes if node.facts is not None]
    for name in ("python", "numpy", "ray", *(["torch"] if uses_torch else []), "distbp"):
        ours = getattr(here, name) or "missing"
        theirs = {m.address: getattr(facts, name) or "missing" for m, facts in alive}
        others = {address: version for address, version in theirs.items() if version != ours}
        if others:
            wanted = next((v for v in (ours, *others.values()) if v != "missing"), ours)
            advice = f"install {name} {wanted} on every node"
            yield warn("versions", f"{name} is {ours} here and {_list(others)}", advice)
    if alive and all(_versions(facts, uses_torch) == _versions(here, uses_torch) for _, facts in alive):
        yield ok("versions", f"{describe_versions(here)} everywhere")
    unlike = {m.address: describe_kernels(facts.arithmetic) for m, facts in alive if facts.probe != here.probe}
    if unlike:
        yield block(
            "numerics",
            f"this process computes with {describe_kernels(here.arithmetic)}, others give other bits: {_list(unlike)}",
            "use the same NumPy on every node, and on unlike CPUs placement.portable=true"
            + (TORCH_VARIABLES if uses_torch else ""),
            NumericsError.exit_code,
        )
    elif alive:
        yield ok("numerics", f"every node computes the same bits (probe {here.probe[:12]})")


def check_kernels(
    here: NodeFacts, nodes: Sequence[ClusterNode], is_portable: bool, weigh: Callable[[], tuple[float, float] | None]
) -> Iterator[Finding]:
    """Yield on which nodes other kernels compute than here, and what portable ones cost on this machine.

    weigh: measures GFLOP/s with this machine's own kernels and with portable ones; None where there are none.
    """
    ours = name_kernels(here.arithmetic)
    named = {node.address: name_kernels(node.facts.arithmetic) for node in nodes if node.facts is not None}
    others = {address: kernels for address, kernels in named.items() if kernels != ours}
    if not others and not is_portable:
        return
    fact = f"here {ours}, others differ: {_list(others)}" if others else f"{ours} on every node"
    cost = "" if (found := weigh()) is None else _describe_cost(*found)
    if others and not is_portable:
        advice = "placement.portable=true makes every process of a run use the same ones"
        yield warn("kernels", f"{fact}{cost}", advice)
    else:
        yield ok("kernels", f"{fact}{cost}")


def _describe_cost(own: float, portable: float) -> str:
    return f"; portable kernels reach {portable:g} GFLOP/s a core on this machine, its own {own:g}"


def check_shared(storage: StorageFacts, nodes: Sequence[ClusterNode]) -> Iterator[Finding]:
    """Yield whether every node sees what this process wrote."""
    if storage.error is not None:
        return
    alive = [(node, node.facts) for node in nodes if node.facts is not None]
    blind = {m.address: facts.storage_error or "it does not see it" for m, facts in alive if not facts.sees_mark}
    if blind:
        yield warn(
            "shared storage",
            f"what is written to '{storage.url}' here is not there on every node: {_list(blind)}",
            "fine while the driver stays on this machine; to resume elsewhere use a shared path, s3:// or gs://",
        )
    elif len(alive) > 1:
        yield ok("shared storage", f"all {len(alive)} nodes see what is written to '{storage.url}'")


def check_clocks(nodes: Sequence[ClusterNode]) -> Iterator[Finding]:
    """Yield which clocks are off."""
    for node in nodes:
        if node.skew_s > MAX_SKEW_S:
            yield warn(
                f"node {node.address} clock",
                f"it differs by {node.skew_s:.0f} s from this machine's",
                "run an NTP service; locks of drivers that died are told from living ones by the clock",
            )


def check_authentication(asks_for_token: bool, is_private: bool) -> Finding:
    """Return who can run code on the cluster."""
    if is_private:
        return ok("authentication", "a private Ray on this machine listens on loopback only and ends with the run")
    if asks_for_token:
        return ok("authentication", "the cluster asks for a token (RAY_AUTH_MODE=token)")
    return warn(
        "authentication",
        "the cluster asks for no token: whoever reaches its ports can run code on it",
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN for every node and driver, or keep its network to yourself",
    )


def describe_versions(facts: NodeFacts) -> str:
    """Return what a node runs."""
    torch = "" if facts.torch is None else f", torch {facts.torch}"
    return (
        f"Python {facts.python}, NumPy {facts.numpy}, Ray {facts.ray or 'not installed'}{torch}, distbp {facts.distbp}"
    )


def _versions(facts: NodeFacts, uses_torch: bool) -> tuple[str | None, ...]:
    return facts.python, facts.numpy, facts.ray, facts.distbp, facts.torch if uses_torch else None


def _list(by_address: dict[str, str]) -> str:
    shown = [f"{value} on {address}" for address, value in list(by_address.items())[:3]]
    more = f" and {len(by_address) - 3} more" if len(by_address) > 3 else ""
    return ", ".join(shown) + more
