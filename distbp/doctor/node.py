"""What one node is, found out by a process on it; the same function runs here and on every node of a cluster."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from distbp.doctor.encryption import OFF, Encryption, find_encryption
from distbp.errors import ConfigError, DistbpError
from distbp.installation import VERSION
from distbp.machine.cores import CGROUP, count_cores
from distbp.nn.blas import describe_blas, one_blas_thread
from distbp.nn.build import ModelSpec
from distbp.nn.kernels import portable_variables
from distbp.nn.numerics import fingerprint
from distbp.run.storage.opening import open_folder

MATRIX_SIZE = 512


@dataclass(frozen=True)
class Blas:
    """The library for matrix products. threads: of one call, where nothing limits them."""

    name: str
    version: str | None
    kernel: str | None
    threads: int


@dataclass(frozen=True)
class NodeFacts:
    """One node. cores, memory_bytes: that this process may use.

    openblas_coretype: the environment variable. simd: optional CPU features that NumPy uses. probe: for the run's
    model. gflops: of one core's float32 matrix products.
    load: programs that wanted to compute at a time in the last minute.
    storage_error: why storage cannot be read from here. sees_mark: whether the driver's file is seen there.
    """

    host: str
    python: str
    numpy: str
    ray: str | None
    distbp: str
    blas: tuple[Blas, ...]
    openblas_coretype: str | None
    simd: tuple[str, ...]
    probe: str
    gflops: float
    cores: int
    load: float
    memory_bytes: int | None
    storage_error: str | None
    sees_mark: bool
    torch: str | None = None
    encryption: Encryption = OFF

    @property
    def arithmetic(self) -> dict[str, Any]:
        """What computes there, with the keys of a run's fingerprint."""
        blas = [{"internal_api": blas.name, "architecture": blas.kernel} for blas in self.blas]
        return {"numpy": self.numpy, "blas": blas, "simd": self.simd}


def examine_node(storage: str, mark: str, model: ModelSpec) -> NodeFacts:
    """Return the facts of the node this runs on. mark: path below `storage` of a file that the driver wrote."""
    sees_mark, storage_error = _look_for(storage, mark)
    numerics = fingerprint(model)
    return NodeFacts(
        host=socket.gethostname(),
        python=platform.python_version(),
        numpy=numerics["numpy"],
        ray=_find_version("ray"),
        distbp=VERSION,
        blas=_list_blas(),
        openblas_coretype=numerics["openblas_coretype"],
        simd=tuple(numerics["simd"]),
        probe=numerics["probe"],
        gflops=measure_gflops(),
        cores=count_cores(),
        load=os.getloadavg()[0],
        memory_bytes=find_memory_bytes(),
        storage_error=storage_error,
        sees_mark=sees_mark,
        torch=_find_version("torch"),
        encryption=find_encryption(),
    )


def find_memory_bytes(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return how much memory is available, within a container's limit; None where the system does not tell."""
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):
        limit, used = (cgroup / "memory.max").read_text(), (cgroup / "memory.current").read_text()
        found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)


def measure_gflops() -> float:
    """Return the speed of one core's float32 matrix products, in thousand million operations a second."""
    a = np.ones((MATRIX_SIZE, MATRIX_SIZE), np.float32)
    seconds = []
    with one_blas_thread():
        for _ in range(5):
            began = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - began)
    return round(2 * MATRIX_SIZE**3 / min(seconds) / 1e9, 1)


def weigh_portable_kernels() -> tuple[float, float] | None:
    """Return GFLOP/s of one core with this machine's own kernels and with portable ones; None where there are none."""
    try:
        variables = portable_variables()
    except ConfigError:
        return None
    own = {key: value for key, value in os.environ.items() if key not in variables}
    return _measure_elsewhere(own), _measure_elsewhere({**own, **variables})


def _measure_elsewhere(environment: dict[str, str]) -> float:
    """Return measure_gflops() of a new process, which chooses its kernels by its environment."""
    code = "import sys; sys.path[:] = sys.argv[1:]; from distbp.doctor.node import measure_gflops as m; print(m())"
    argv = [sys.executable, "-c", code, *sys.path]
    return float(subprocess.run(argv, env=environment, capture_output=True, check=True, timeout=120).stdout)


def _look_for(storage: str, mark: str) -> tuple[bool, str | None]:
    try:
        folder, _, name = mark.rpartition("/")
        return open_folder(storage).child(folder).read(name) is not None, None
    except DistbpError as error:
        return False, str(error)


def _list_blas() -> tuple[Blas, ...]:
    found = describe_blas()
    if found is None:
        return ()
    name, threads = str(found["internal_api"]), int(found["num_threads"])
    return (Blas(name, found.get("version"), found.get("architecture"), threads),)


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
