"""Judges this machine and storage: pure functions from what was found to findings."""

from __future__ import annotations

from collections.abc import Iterator

from distbp.doctor.demand import Demand, compare_memory, describe_size
from distbp.doctor.findings import Finding, block, ok, warn
from distbp.doctor.node import NodeFacts
from distbp.doctor.storage_trial import StorageFacts
from distbp.errors import StorageError

BUSY_SHARE = 0.5  # of the cores, by others
SLOW_SMALL_S = 0.5


def check_blas(node: NodeFacts, is_portable: bool = False) -> Iterator[Finding]:
    """Yield what is to be said about matrix products on this machine. is_portable: the run asks for such kernels."""
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
    if node.openblas_coretype is not None and not is_portable:
        yield warn(
            "BLAS kernel",
            f"OPENBLAS_CORETYPE={node.openblas_coretype} chooses the kernel, which may be slower than this CPU's own",
            "on a cluster of unlike CPUs it is not enough: set placement.portable=true; on one kind of CPU unset it "
            "(before a run begins: its bytes depend on it)",
        )


def check_cores(node: NodeFacts, demand: Demand) -> Iterator[Finding]:
    """Yield whether workers in this process, or on a Ray of this machine alone, have cores to compute on."""
    wanted = demand.max_workers * demand.threads
    each = f" of {demand.threads} threads" if demand.threads > 1 else ""
    most = max(1, node.cores // demand.threads)
    workers = f"{demand.max_workers} worker{'s' if demand.max_workers > 1 else ''}{each}"
    cores = f"{node.cores} core{'s' if node.cores > 1 else ''}"
    if wanted > node.cores:
        yield warn(
            "cores",
            f"{workers} on {cores}: they take turns",
            f"use at most workers={most}; more are no faster, but do give the same bytes",
        )
    else:
        yield ok("cores", f"{workers} on {cores}")
    if node.load > BUSY_SHARE * node.cores:
        yield warn(
            "load",
            f"{node.load:.1f} programs wanted to compute at a time in the last minute, on {cores}",
            "measure nothing now, and expect runs to take longer",
        )


def check_memory(node: NodeFacts, demand: Demand) -> Iterator[Finding]:
    """Yield whether data and model fit into this machine's memory."""
    need = demand.array_bytes + demand.worker_bytes(demand.max_workers) + 2 * demand.checkpoint_bytes
    yield compare_memory("memory", need, node.memory_bytes, "data, workers and waiting checkpoints")


def check_storage(storage: StorageFacts, demand: Demand) -> Iterator[Finding]:
    """Yield whether storage does what a run needs."""
    if storage.error is not None:
        yield block(
            "storage",
            storage.error,
            "a run would end with this at once; --storage names another",
            StorageError.exit_code,
        )
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
    yield from _check_space(storage, demand)


def _check_space(storage: StorageFacts, demand: Demand) -> Iterator[Finding]:
    need = (demand.keep_checkpoints + 2) * demand.checkpoint_bytes
    if storage.free_bytes is not None and storage.free_bytes < need:
        free, wanted = describe_size(storage.free_bytes), describe_size(need)
        yield warn(
            "disk space",
            f"{free} are free and {demand.keep_checkpoints + 2} checkpoints take {wanted}",
            "free some, lower keep_checkpoints, or choose another storage",
        )
