"""Which kernels compute: OpenBLAS and NumPy choose theirs by the CPU, and other kernels give other bits.

Portable kernels are those of an x86 CPU with AVX2, which newer ones have as well. They are chosen by environment
variables that are read while NumPy is imported.
"""

from __future__ import annotations

import os
import platform
import shlex
from importlib import import_module

from distbp.errors import ConfigError
from distbp.nn.blas import describe_blas

CORETYPE, DISABLED = "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"
_PORTABLE_CORE = "Haswell"
_UP_TO_SSE = frozenset({"SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "SSE42", "POPCNT", "X86_V2"})
_UP_TO_AVX2 = _UP_TO_SSE | {"AVX", "F16C", "XOP", "FMA3", "FMA4", "AVX2", "X86_V3"}
"""As any NumPy 2 calls them."""


def list_simd() -> tuple[str, ...]:
    """Return which of its optional CPU features NumPy uses in this process."""
    numpy = import_module("numpy._core._multiarray_umath")
    return tuple(name for name in numpy.__cpu_dispatch__ if numpy.__cpu_features__[name])


def is_portable() -> bool:
    """Return whether this process computes with the portable kernels."""
    blas = describe_blas()
    core = blas is not None and blas.get("architecture") == _PORTABLE_CORE
    return core and _is_x86() and set(list_simd()) <= _UP_TO_AVX2


def portable_variables() -> dict[str, str]:
    """Return the environment variables that make a process use the portable kernels.

    Raises ConfigError where there are none.
    """
    _check_possible()
    numpy = import_module("numpy._core._multiarray_umath")
    newer = {name for name in numpy.__cpu_dispatch__ if name not in _UP_TO_AVX2}
    disabled = newer | set(os.environ.get(DISABLED, "").replace(",", " ").split())
    return {CORETYPE: _PORTABLE_CORE, DISABLED: ",".join(sorted(disabled))}


def inherited_variables() -> dict[str, str]:
    """Return what processes elsewhere need to compute as this one does where it is portable; else nothing."""
    return portable_variables() if is_portable() else {}


def expect_portable() -> None:
    """Raise ConfigError, with what to type, unless this process computes with the portable kernels."""
    if is_portable():
        return
    assignments = " ".join(f"{key}={shlex.quote(value)}" for key, value in portable_variables().items())
    raise ConfigError(
        "placement.portable=true needs other kernels than this process has, and NumPy chooses them while it is "
        f"imported; start it again as: env {assignments} python ... (the command line does so by itself)"
    )


def _check_possible() -> None:
    advice = "leave placement.portable out, and use nodes of one kind"
    numpy = import_module("numpy._core._multiarray_umath")
    features = numpy.__cpu_features__
    if not _is_x86() or not features.get("AVX2"):
        raise ConfigError(
            f"placement.portable=true is for x86 CPUs with AVX2, and this one is {platform.machine()}; {advice}"
        )
    if not set(numpy.__cpu_baseline__) <= _UP_TO_AVX2:
        raise ConfigError(f"placement.portable=true: this NumPy is built for newer CPUs only; {advice}")
    blas = describe_blas()
    name = "an unknown BLAS" if blas is None else blas["internal_api"]
    if blas is None or name != "openblas" or not blas.get("architecture"):
        raise ConfigError(
            f"placement.portable=true needs NumPy with OpenBLAS, as pip installs it, and this one has {name}; {advice}"
        )


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
