"""Activation functions a = s(z) and the chain rule through them.

Shape legend: every array is (B, O), examples by neurons. All work in place, in the dtype given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Activation:
    """An activation function and its derivative.

    apply(z, a): write s(z) into a; a may be z itself unless `needs_z`.
    chain(delta, z, a): multiply delta by s'(z) in place.
    needs_z: whether chain reads z, which must then be kept beside a.
    """

    apply: Callable[[NDArray, NDArray], object]
    chain: Callable[[NDArray, NDArray, NDArray], object]
    needs_z: bool = False


def _identity(z: NDArray, a: NDArray) -> None:
    if a is not z:
        np.copyto(a, z)


def _identity_chain(delta: NDArray, z: NDArray, a: NDArray) -> None:
    """s'(z) = 1."""


def _sigmoid(z: NDArray, a: NDArray) -> None:
    """1 / (1 + e^-z), written as (1 + tanh(z / 2)) / 2, which cannot overflow."""
    np.multiply(z, 0.5, out=a)
    np.tanh(a, out=a)
    a += 1
    a *= 0.5


def _sigmoid_chain(delta: NDArray, z: NDArray, a: NDArray) -> None:
    """s'(z) = a (1 - a)."""
    delta *= a
    delta *= 1 - a


def _tanh_chain(delta: NDArray, z: NDArray, a: NDArray) -> None:
    """s'(z) = 1 - a^2."""
    delta *= 1 - a * a


def _relu(z: NDArray, a: NDArray) -> None:
    np.maximum(z, 0, out=a)


def _relu_chain(delta: NDArray, z: NDArray, a: NDArray) -> None:
    """s'(z) = 1 where z > 0, else 0 (also at 0)."""
    delta *= a > 0


_GELU_SCALE = math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715


def _gelu_tanh(z: NDArray) -> NDArray:
    t: NDArray = np.tanh(_GELU_SCALE * (z + _GELU_CUBIC * z * z * z))
    return t


def _gelu(z: NDArray, a: NDArray) -> None:
    """z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2: the tanh form of Hendrycks & Gimpel 2016, section 2."""
    np.multiply(0.5 * z, 1 + _gelu_tanh(z), out=a)


def _gelu_chain(delta: NDArray, z: NDArray, a: NDArray) -> None:
    t = _gelu_tanh(z)
    inner = _GELU_SCALE * (1 + 3 * _GELU_CUBIC * z * z)  # d/dz of tanh's argument
    delta *= 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner


def activation(name: str) -> Activation:
    """Return the activation called `name` in a recipe."""
    match name:
        case "identity":
            return Activation(_identity, _identity_chain)
        case "sigmoid":
            return Activation(_sigmoid, _sigmoid_chain)
        case "tanh":
            return Activation(np.tanh, _tanh_chain)
        case "relu":
            return Activation(_relu, _relu_chain)
        case "gelu":
            return Activation(_gelu, _gelu_chain, needs_z=True)
    raise ValueError(f"no activation is called {name!r}")
