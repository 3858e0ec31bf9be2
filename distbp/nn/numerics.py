"""What code cannot fix is made visible: which floating-point results this process computes."""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

import numpy as np

from distbp.config import Model as ModelConfig
from distbp.nn.blas import compute_exactly, describe_blas, one_blas_thread, pin_blas
from distbp.nn.mlp import build_mlp
from distbp.nn.streams import Purpose, stream

__all__ = ["fingerprint", "one_blas_thread", "pin_blas", "probe"]


@functools.cache
def probe() -> str:
    """Return a SHA-256 over gradients of small fixed networks: equal where matmul, tanh, exp and draws are.

    Two processes whose probes are equal are taken to compute the same bits.
    """
    sha = hashlib.sha256()
    for dtype in ("float32", "float64"):
        for name in ("tanh", "sigmoid", "gelu", "relu"):
            sha.update(compute_exactly(functools.partial(_probe_gradient, name, dtype)).tobytes())
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
    """Return the versions and kernel of NumPy and of its BLAS, and the probe: what a run writes to numerics.json."""
    found = describe_blas()
    keys = ("internal_api", "version", "architecture", "threading_layer")
    blas = [] if found is None else [{key: found.get(key) for key in keys}]
    return {
        "numpy": np.__version__,
        "blas": blas,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
        "probe": probe(),
    }
