"""What code cannot fix is made visible: which floating-point results this process computes."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distbp.config import Model as ModelConfig
from distbp.nn.blas import compute_exactly, describe_blas, one_blas_thread, pin_blas
from distbp.nn.build import ModelSpec, probe_model
from distbp.nn.kernels import CORETYPE, list_simd
from distbp.nn.mlp import MLP, build_mlp
from distbp.nn.streams import Purpose, stream

__all__ = [
    "describe_kernels",
    "fingerprint",
    "is_same_arithmetic",
    "list_kernels",
    "name_blas",
    "name_kernels",
    "one_blas_thread",
    "pin_blas",
    "probe",
    "whole_probe",
]


_ACTIVATIONS = ("tanh", "sigmoid", "gelu", "relu")
_FORMAT = 2


def probe(spec: ModelSpec) -> str:
    """Return a SHA-256 over what a small fixed network computes: equal where products, activation and loss are.

    The network has the model's dtype, activation, loss and kind of layers, and other sizes. Two processes whose probes
    are equal are taken to compute the same bits for that model. A PyTorch module is asked itself, on a keyed sample. A
    model of the user's own with its own gradients may compute anything: there it is the probe of all built-in
    activations in both dtypes.
    """
    if spec.config.torch is not None:
        return probe_model(spec)
    if spec.config.function is not None:
        return whole_probe()
    config = spec.config
    hidden = (131, 67) if config.hidden else ()
    dropout = 0.1 if config.dropout else 0.0
    return _probe_network(
        config.activation, config.loss, config.init, hidden, dropout, spec.is_classification, spec.dtype
    )


@functools.cache
def whole_probe() -> str:
    """Return the probe over every built-in activation in both dtypes; version 0.1.0 wrote it for every run."""
    sha = hashlib.sha256()
    for dtype in ("float32", "float64"):
        for name in _ACTIVATIONS:
            model = ModelConfig(activation=name, hidden=(131, 67), dropout=0.1)  # type: ignore[arg-type]  # a plain str
            gradient, _ = compute_exactly(
                functools.partial(_compute, build_mlp(model, 97, 10, True, dtype), dtype, True)
            )
            sha.update(gradient.tobytes())
    return sha.hexdigest()


@functools.cache
def _probe_network(
    activation: str, loss: str, init: str, hidden: tuple[int, ...], dropout: float, is_classification: bool, dtype: str
) -> str:
    config = ModelConfig.model_validate(
        {"activation": activation, "loss": loss, "init": init, "hidden": hidden, "dropout": dropout}
    )
    model = build_mlp(config, 97, 10, is_classification, dtype)
    gradient, losses = compute_exactly(functools.partial(_compute, model, dtype, is_classification))
    return hashlib.sha256(gradient.tobytes() + np.array(losses).tobytes()).hexdigest()


def _compute(model: MLP, dtype: str, is_classification: bool) -> tuple[np.ndarray, list[float]]:
    """Return the flat gradient and losses of a network on 53 examples: odd sizes reach every edge of a kernel."""
    rng = stream(0, Purpose.INIT)
    parameters, gradient = np.empty((2, model.layout.num_parameters), dtype)
    views = model.layout.views(parameters)
    model.init(views, rng)
    x = rng.standard_normal((53, 97)).astype(dtype)
    y = rng.integers(0, 10, 53) if is_classification else rng.standard_normal((53, 10)).astype(dtype)
    trained = model.gradient_sums(views, x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT))
    return gradient, [trained.loss, model.loss_sums(views, x, y).loss]


def is_same_arithmetic(then: Mapping[str, Any], spec: ModelSpec) -> bool:
    """Return whether this process computes the bits of the one that wrote `then`, of any version, for a model."""
    return bool(then.get("probe") == (probe(spec) if then.get("format") == _FORMAT else whole_probe()))


def fingerprint(spec: ModelSpec) -> dict[str, Any]:
    """Return what a run writes to numerics.json: NumPy, its BLAS, their kernels, and the probe for its model."""
    return {"format": _FORMAT, **list_kernels(), "probe": probe(spec)}


def list_kernels() -> dict[str, Any]:
    """Return what computes in this process: the versions and kernels of NumPy and of its BLAS."""
    found = describe_blas()
    keys = ("internal_api", "version", "architecture", "threading_layer")
    return {
        "numpy": np.__version__,
        "simd": list(list_simd()),
        "blas": [] if found is None else [{key: found.get(key) for key in keys}],
        "openblas_coretype": os.environ.get(CORETYPE),
    }


def describe_kernels(numerics: Mapping[str, Any]) -> str:
    """Return in a few words what a fingerprint, of any version, says of NumPy and the kernels."""
    return f"NumPy {numerics.get('numpy')} with {name_kernels(numerics)}"


def name_kernels(numerics: Mapping[str, Any]) -> str:
    """Return which kernels compute: "openblas SkylakeX and AVX512_ICL"."""
    simd = f" and {numerics['simd'][-1]}" if numerics.get("simd") else ""
    return f"{name_blas(numerics)}{simd}"


def name_blas(numerics: Mapping[str, Any], keys: Sequence[str] = ("internal_api", "architecture")) -> str:
    """Return the BLAS of a fingerprint by its name and kernels, or by other `keys`; 0.1.0 wrote all in the process."""
    names = [" ".join(str(blas[key]) for key in keys if blas.get(key)) for blas in numerics.get("blas") or []]
    return ", ".join(names) or "an unknown BLAS"
