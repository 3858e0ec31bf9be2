"""What code cannot fix is made visible: which floating-point results this process computes."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import threadpoolctl

from distbp.config import Model as ModelConfig
from distbp.nn.mlp import build_mlp
from distbp.nn.streams import Purpose, stream


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Pin BLAS to one thread per call: a matrix product split over threads may have other bits."""
    with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
        yield


def pin_blas() -> None:
    """Pin BLAS to one thread for the rest of this process's life."""
    threadpoolctl.threadpool_limits(limits=1, user_api="blas")


@functools.cache
def probe() -> str:
    """Return a SHA-256 over gradients of small fixed networks: equal where matmul, tanh, exp and draws are.

    Two processes whose probes are equal are taken to compute the same bits.
    """
    sha = hashlib.sha256()
    with one_blas_thread():
        for dtype in ("float32", "float64"):
            for name in ("tanh", "sigmoid", "gelu", "relu"):
                sha.update(_probe_gradient(name, dtype).tobytes())
    return sha.hexdigest()


def _probe_gradient(activation: str, dtype: str) -> np.ndarray:
    """Return the flat gradient of a 97-131-67-10 network on 53 examples: odd sizes reach every edge of a kernel."""
    rng = stream(0, Purpose.INIT)
    model = build_mlp(ModelConfig(activation=activation, hidden=(131, 67), dropout=0.1), 97, 10, True, dtype)  # type: ignore[arg-type]  # a plain str
    parameters, gradient = np.empty((2, model.layout.num_parameters), dtype)
    model.init(model.layout.views(parameters), rng)
    x = rng.standard_normal((53, 97)).astype(dtype)
    y = rng.integers(0, 10, 53)
    model.gradient_sums(model.layout.views(parameters), x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT))
    return gradient


def fingerprint() -> dict[str, Any]:
    """Return NumPy's and BLAS's versions and kernel, and the probe: what a run writes to numerics.json."""
    blas = [
        {key: library.get(key) for key in ("internal_api", "version", "architecture", "threading_layer")}
        for library in threadpoolctl.threadpool_info()
        if library.get("user_api") == "blas"
    ]
    return {
        "numpy": np.__version__,
        "blas": blas,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
        "probe": probe(),
    }
