"""Losses of one example, and how the last layer's error delta = dC/dz follows from them.

Shape legend: B examples, O outputs. Losses are per example; nothing is averaged here.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.nn.activations import Activation


class Loss(Protocol):
    """The last layer's activation together with the cost of its outputs."""

    def outputs(self, z: NDArray) -> NDArray:
        """Return the outputs a (B, O) for z (B, O); may reuse z's memory."""
        ...

    def losses(self, z: NDArray, y: NDArray) -> NDArray:
        """Return the loss of every example, (B,); z stays as it is."""
        ...

    def losses_and_delta(self, z: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Return the losses (B,) and delta = dC/dz (B, O); overwrites z."""
        ...


class CrossEntropy:
    """Softmax cross-entropy: C = -log a_y with a = softmax(z). y: (B,) classes."""

    def outputs(self, z: NDArray) -> NDArray:
        """Return softmax(z)."""
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z

    def losses(self, z: NDArray, y: NDArray) -> NDArray:
        """Return log(sum_j e^(z_j - max z)) - (z_y - max z)."""
        return self.losses_and_delta(z.copy(), y)[0]

    def losses_and_delta(self, z: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Return the losses and a - onehot(y)."""
        at_class = np.arange(len(z)), y
        z -= np.maximum.reduce(z, axis=1, keepdims=True)
        wanted = z[at_class]
        np.exp(z, out=z)
        total = np.add.reduce(z, axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - wanted
        z /= total
        z[at_class] -= 1
        return losses, z


class BinaryCrossEntropy:
    """Each output a class of its own: C = -sum_j [y_j log a_j + (1 - y_j) log(1 - a_j)], a = 1 / (1 + e^-z).

    y: (B, O), 0 or 1.
    """

    def outputs(self, z: NDArray) -> NDArray:
        """Return 1 / (1 + e^-z), without overflow."""
        small = np.exp(-np.abs(z))
        a: NDArray = np.where(z >= 0, 1, small) / (1 + small)
        return a

    def losses(self, z: NDArray, y: NDArray) -> NDArray:
        """Return sum_j [max(z_j, 0) - y_j z_j + log(1 + e^-|z_j|)]."""
        losses: NDArray = np.add.reduce(np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))), axis=1)
        return losses

    def losses_and_delta(self, z: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Return the losses and a - y."""
        losses = self.losses(z, y)
        z[...] = self.outputs(z) - y
        return losses, z


class SquaredError:
    """The lesson's cost: C = sum_j (a_j - y_j)^2, without a factor 1/2, a = s(z).

    y: (B, O) targets, or (B,) classes, whose wanted output is 1 for the class and 0 elsewhere.
    """

    def __init__(self, activation: Activation, units: tuple[float, ...] | None = None):
        """units: (O,) what each square counts in the loss that is told; the gradient is that of plain squares."""
        self._activation = activation
        self._units = None if units is None else np.array(units, np.float64)

    def outputs(self, z: NDArray) -> NDArray:
        """Return s(z)."""
        a = np.empty_like(z)
        self._activation.apply(z, a)
        return a

    def losses(self, z: NDArray, y: NDArray) -> NDArray:
        """Return sum_j (a_j - y_j)^2."""
        return self._add_squares(_subtract_wanted(self.outputs(z), y))

    def losses_and_delta(self, z: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Return the losses and 2 (a - y) s'(z)."""
        a = self.outputs(z)
        delta = _subtract_wanted(a.copy(), y)
        losses = self._add_squares(delta)
        delta *= 2
        self._activation.chain(delta, z, a)
        return losses, delta

    def _add_squares(self, off: NDArray) -> NDArray:
        if self._units is not None:
            told: NDArray = np.einsum("bo,o->b", np.square(off, dtype=np.float64), self._units)
            return told
        losses: NDArray = np.einsum("bo,bo->b", off, off)
        return losses


def _subtract_wanted(a: NDArray, y: NDArray) -> NDArray:
    if y.ndim == 1:
        a[np.arange(len(a)), y] -= 1
    else:
        a -= y
    return a
