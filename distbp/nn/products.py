"""Matrix products added to what an array already holds.

NumPy's products overwrite their output, so adding one takes a second array and another pass over three. BLAS' own
gemm adds as it writes (beta = 1). It gives the bits of adding afterwards as long as it sums over the examples in one
go, which it does up to a few hundred of them; that is tried for every shape, not assumed.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

_ROW_MAJOR, _AS_IT_LIES, _TRANSPOSED = 101, 111, 112
_TYPES = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}
_NAMES = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_")
"""gemm with 64-bit integers, as OpenBLAS calls it in NumPy's wheels; elsewhere NumPy's own operations are used."""

MIN_SIDE, NUM_TRIALS = 8, 3
MIN_VALUES = 1 << 15
"""Calling BLAS takes a few microseconds more than NumPy's product: so long does adding take from about here on."""


class ProductAdder:
    """Adds delta^T a to a weight's gradient. Not for two threads at once: it keeps an array for NumPy's products."""

    def __init__(self) -> None:
        self._products: dict[tuple[int, ...], NDArray] = {}

    def add(self, delta: NDArray, a: NDArray, out: NDArray) -> None:
        """Add delta^T a to `out`, with the bits of `out += delta.T @ a`.

        delta: (B, O), a: (B, I), each in C or Fortran order. out: (O, I) in C order.
        """
        in_c_order = delta.flags.c_contiguous, a.flags.c_contiguous
        if out.size >= MIN_VALUES and _adds_like_numpy(out.dtype.char, len(delta), out.shape, in_c_order):
            _add_by_blas(delta, a, out, in_c_order)
            return
        product = self._products.get(out.shape)
        if product is None:
            product = self._products[out.shape] = np.empty_like(out)
        out += np.matmul(delta.T, a, out=product)


@functools.cache
def _adds_like_numpy(dtype: str, num_examples: int, shape: tuple[int, int], in_c_order: tuple[bool, bool]) -> bool:
    """Return whether BLAS gives NumPy's bits for this shape and these orders, by trying.

    Not where one side is very short: NumPy has other ways for vectors, and a few values could be equal by chance.
    """
    if min(shape) < MIN_SIDE or _find_gemm(dtype) is None:
        return False
    rng = np.random.default_rng(0)
    return all(_is_equal_once(rng, dtype, num_examples, shape, in_c_order) for _ in range(NUM_TRIALS))


def _is_equal_once(
    rng: np.random.Generator, dtype: str, num_examples: int, shape: tuple[int, int], in_c_order: tuple[bool, bool]
) -> bool:
    """Compare once, with examples of such different sizes that another order of additions has other bits."""
    weight = 2.0 ** rng.integers(-8, 8, (num_examples, 1))
    delta, a = (
        (weight * rng.standard_normal((num_examples, size))).astype(dtype, order="C" if is_c else "F")
        for size, is_c in zip(shape, in_c_order, strict=True)
    )
    before = (2.0**15 * rng.standard_normal(shape)).astype(dtype)
    after = before.copy()
    _add_by_blas(delta, a, after, in_c_order)
    return np.array_equal(after, before + delta.T @ a)


def _add_by_blas(delta: NDArray, a: NDArray, out: NDArray, in_c_order: tuple[bool, bool]) -> None:
    gemm = _find_gemm(out.dtype.char)
    assert gemm is not None  # asked before
    num_examples, (num_outputs, num_inputs) = len(delta), out.shape
    delta_lies, delta_stride = (_TRANSPOSED, num_outputs) if in_c_order[0] else (_AS_IT_LIES, num_examples)
    a_lies, a_stride = (_AS_IT_LIES, num_inputs) if in_c_order[1] else (_TRANSPOSED, num_examples)
    gemm(
        _ROW_MAJOR, delta_lies, a_lies, num_outputs, num_inputs, num_examples,
        1.0, delta.ctypes.data, delta_stride, a.ctypes.data, a_stride, 1.0, out.ctypes.data, num_inputs,
    )  # fmt: skip


@functools.cache
def _find_gemm(dtype: str) -> Callable[..., Any] | None:
    """Return cblas_sgemm ("f") or cblas_dgemm ("d") of a BLAS in this process, None if there is none known to fit."""
    letter, scalar = _TYPES[dtype]
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    for library in threadpoolctl.threadpool_info():
        for name in _NAMES:
            gemm = getattr(ctypes.CDLL(library["filepath"]), name.format(letter), None)
            if gemm is not None:
                gemm.argtypes = [
                    ctypes.c_int, ctypes.c_int, ctypes.c_int, size, size, size,
                    scalar, pointer, size, pointer, size, scalar, pointer, size,
                ]  # fmt: skip
                gemm.restype = None
                return gemm  # type: ignore[no-any-return]  # a function of a library has no type
    return None
