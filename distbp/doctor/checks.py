"""Judges facts: pure functions from what was found to findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distbp.doctor.findings import Finding, block, ok, warn
from distbp.doctor.node import NodeFacts
from distbp.doctor.storage_trial import StorageFacts
from distbp.errors import ClusterError, NumericsError, StorageError

BUSY_SHARE = 0.5  # of the cores, by others
SLOW_SMALL_S = 0.5
MAX_SKEW_S = 5.0


@dataclass(frozen=True)
class Job:
    """The run that is meant. array_bytes: of data that workers hold in memory; mapped files count nothing.

    num_microbatches: of a whole batch. max_workers, threads: as in the placement.
    """

    max_workers: int
    min_workers: int
    threads: int
    parameter_bytes: int
    array_bytes: int
    num_microbatches: int
    keep_checkpoints: int

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint on storage."""
        return 2 * self.parameter_bytes  # and the velocity

    def worker_bytes(self, num_workers: int) -> int:
        """Return about how much memory `num_workers` workers on one node take, beside the data."""
        shard = max(1, math.ceil(self.num_microbatches / self.max_workers))
        gradients = self.threads * (1 + math.ceil(math.log2(shard + 1)))
        return self.parameter_bytes * (1 + num_workers * (gradients + 2))


@dataclass(frozen=True)
class Member:
    """A node of the cluster as the checks see it. facts: None if it did not answer, for the reason in `error`."""

    address: str
    num_cpus: float
    object_store_bytes: int
    facts: NodeFacts | None
    error: str | None
    skew_s: float


def check_blas(node: NodeFacts) -> Iterator[Finding]:
    """Yield what is to be said about matrix products on this machine."""
    if not node.blas:
        yield warn(
            "BLAS",
            f"NumPy {node.numpy} uses a BLAS that cannot be told to use one thread, at {node.gflops:g} GFLOP/s",
            "the same bytes for any number of workers are not certain; install NumPy from a wheel (pip install numpy)",
        )
        return
    for blas in node.blas:
        kernel = f", {blas.kernel} kernel" if blas.kernel else ""
        pinned = f"; runs use 1 thread a call instead of {blas.threads}" if blas.threads > 1 else ""
        yield ok("BLAS", f"{blas.name} {blas.version or ''}{kernel}, {node.gflops:g} GFLOP/s a core in float32{pinned}")
    if node.openblas_coretype is not None:
        yield warn(
            "BLAS kernel",
            f"OPENBLAS_CORETYPE={node.openblas_coretype} chooses the kernel, which may be slower than this CPU's own",
            "right on a cluster of unlike CPUs, where it must be the same on every node; on one kind of CPU unset it "
            "(before a run begins: its bytes depend on it)",
        )


def check_cores(node: NodeFacts, job: Job) -> Iterator[Finding]:
    """Yield whether workers in this process, or on a Ray of this machine alone, have cores to compute on."""
    wanted = job.max_workers * job.threads
    each = f" of {job.threads} threads" if job.threads > 1 else ""
    workers = f"{job.max_workers} worker{'s' if job.max_workers > 1 else ''}{each}"
    cores = f"{node.cores} core{'s' if node.cores > 1 else ''}"
    if wanted > node.cores:
        yield warn(
            "cores",
            f"{workers} on {cores}: they take turns",
            f"use at most workers={max(1, node.cores // job.threads)}; more are no faster, but do give the same bytes",
        )
    else:
        yield ok("cores", f"{workers} on {cores}")
    if node.load > BUSY_SHARE * node.cores:
        yield warn(
            "load",
            f"{node.load:.1f} programs wanted to compute at a time in the last minute, on {cores}",
            "measure nothing now, and expect runs to take longer",
        )


def check_memory(node: NodeFacts, job: Job) -> Iterator[Finding]:
    """Yield whether data and model fit into this machine's memory."""
    need = job.array_bytes + job.worker_bytes(job.max_workers) + 2 * job.checkpoint_bytes
    yield _compare_memory("memory", need, node.memory_bytes, "data, workers and waiting checkpoints")


def check_storage(storage: StorageFacts, job: Job) -> Iterator[Finding]:
    """Yield whether storage does what a run needs."""
    if storage.error is not None:
        yield block("storage", storage.error, "a run would end with this at once", StorageError.exit_code)
        return
    small, speed = f"{storage.small_s * 1e3:.1f} ms", f"{storage.bytes_per_s / 1e6:,.0f} MB/s"
    yield ok("storage", f"'{storage.url}' can be written, read and removed: {small} for a small file, {speed}")
    if storage.small_s > SLOW_SMALL_S:
        yield warn(
            "storage speed",
            f"a small file takes {small}",
            "training does not wait for it, but raise checkpoint_every_steps so that checkpoints keep up",
        )
    if not storage.admits_one:
        yield warn(
            "storage lock",
            f"'{storage.url}' lets two create the same file, so two drivers that start at once may both get a run",
            "start one at a time; nothing is lost if both write, because both write the same bytes",
        )
    yield from _check_space(storage, job)


def _check_space(storage: StorageFacts, job: Job) -> Iterator[Finding]:
    need = (job.keep_checkpoints + 2) * job.checkpoint_bytes
    if storage.free_bytes is not None and storage.free_bytes < need:
        yield warn(
            "disk space",
            f"{_size(storage.free_bytes)} are free and {job.keep_checkpoints + 2} checkpoints take {_size(need)}",
            "free some, lower keep_checkpoints, or choose another storage",
        )


def check_cluster(members: Sequence[Member], job: Job) -> Iterator[Finding]:
    """Yield whether a cluster has nodes that answer, CPUs and memory for the run."""
    for member in members:
        if member.facts is None:
            yield block(
                f"node {member.address}",
                f"it does not run distbp: {member.error}",
                "install the same distbp, Python and Ray on every node (distbp submit takes its own code along)",
                ClusterError.exit_code,
            )
    yield _check_cpus(members, job)
    alive = [member for member in members if member.facts is not None]
    per_node = math.ceil(job.max_workers / max(1, len(alive)))
    for member in alive:
        yield from _check_member_memory(member, job, per_node)


def _check_cpus(members: Sequence[Member], job: Job) -> Finding:
    total = sum(member.num_cpus for member in members)
    have = f"{len(members)} node{'s' if len(members) > 1 else ''} with {total:g} CPUs"
    least, most = job.min_workers * job.threads, job.max_workers * job.threads
    if total < least:
        advice = f"use at most workers={int(total) // job.threads or 1}, or add nodes"
        return block("cluster", f"{have}, and the run needs {least}", advice, ClusterError.exit_code)
    if total < most:
        return warn("cluster", f"{have}, and the run would use {most}", "it starts with what there is and grows")
    return ok("cluster", f"{have} for {most} that the run uses")


def _check_member_memory(member: Member, job: Job, num_workers: int) -> Iterator[Finding]:
    assert member.facts is not None
    name = f"node {member.address}"
    yield _compare_memory(f"{name} memory", job.worker_bytes(num_workers), member.facts.memory_bytes, "its workers")
    if job.array_bytes > member.object_store_bytes:
        yield warn(
            f"{name} object store",
            f"the data take {_size(job.array_bytes)} of its {_size(member.object_store_bytes)}: they would go to disk",
            "start Ray with a larger --object-store-memory, or train from a .npy pair, which is mapped and not copied",
        )


def check_alike(here: NodeFacts, members: Sequence[Member]) -> Iterator[Finding]:
    """Yield whether all nodes have the software and the arithmetic of this process."""
    alive = [(member, member.facts) for member in members if member.facts is not None]
    for name in ("python", "numpy", "ray", "distbp"):
        ours = getattr(here, name)
        others = {m.address: getattr(facts, name) for m, facts in alive if getattr(facts, name) != ours}
        if others:
            yield warn("versions", f"{name} is {ours} here and {_list(others)}", f"install {name} {ours} on every node")
    if alive and all(_versions(facts) == _versions(here) for _, facts in alive):
        yield ok(
            "versions", f"Python {here.python}, NumPy {here.numpy}, Ray {here.ray}, distbp {here.distbp} everywhere"
        )
    unlike = {m.address: _describe_numerics(facts) for m, facts in alive if facts.probe != here.probe}
    if unlike:
        yield block(
            "numerics",
            f"this process computes with {_describe_numerics(here)}, others give other bits: {_list(unlike)}",
            "set the same OPENBLAS_CORETYPE, for example Haswell, and the same NumPy on every node",
            NumericsError.exit_code,
        )
    elif alive:
        yield ok("numerics", f"every node computes the same bits (probe {here.probe[:12]})")


def check_shared(storage: StorageFacts, members: Sequence[Member]) -> Iterator[Finding]:
    """Yield whether every node sees what this process wrote."""
    if storage.error is not None:
        return
    alive = [(member, member.facts) for member in members if member.facts is not None]
    blind = {m.address: facts.storage_error or "it does not see it" for m, facts in alive if not facts.sees_mark}
    if blind:
        yield warn(
            "shared storage",
            f"what is written to '{storage.url}' here is not there on every node: {_list(blind)}",
            "fine while the driver stays on this machine; to resume elsewhere use a shared path, s3:// or gs://",
        )
    elif len(alive) > 1:
        yield ok("shared storage", f"all {len(alive)} nodes see what is written to '{storage.url}'")


def check_clocks(members: Sequence[Member]) -> Iterator[Finding]:
    """Yield which clocks are off."""
    for member in members:
        if member.skew_s > MAX_SKEW_S:
            yield warn(
                f"node {member.address} clock",
                f"it differs by {member.skew_s:.0f} s from this machine's",
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


def _compare_memory(topic: str, need: int, available: int | None, what: str) -> Finding:
    if available is None:
        return ok(topic, f"about {_size(need)} for {what}; this system does not tell how much there is")
    fact = f"about {_size(need)} for {what}, of {_size(available)} available"
    if need > available:
        return warn(topic, fact, "use fewer workers, a smaller model, or data in a .npy pair, which is mapped")
    return ok(topic, fact)


def describe_versions(facts: NodeFacts) -> str:
    """Return what a node runs."""
    return f"Python {facts.python}, NumPy {facts.numpy}, Ray {facts.ray or 'not installed'}, distbp {facts.distbp}"


def _versions(facts: NodeFacts) -> tuple[str | None, ...]:
    return facts.python, facts.numpy, facts.ray, facts.distbp


def _describe_numerics(facts: NodeFacts) -> str:
    kernels = ", ".join(blas.kernel or blas.name for blas in facts.blas) or "an unknown BLAS"
    return f"NumPy {facts.numpy} with {kernels}"


def _list(by_address: dict[str, str]) -> str:
    shown = [f"{value} on {address}" for address, value in list(by_address.items())[:3]]
    more = f" and {len(by_address) - 3} more" if len(by_address) > 3 else ""
    return ", ".join(shown) + more


def _size(num_bytes: float) -> str:
    """Return 12 kB, 3.4 MB, 5.6 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{math.ceil(num_bytes / 1e3)} kB"
