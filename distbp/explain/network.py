"""The network of one checkpoint, in float64: what backprop computes, and what happens when one number changes.

The parameters are exactly the checkpoint's. Only the arithmetic is more precise than in training, so that a small
change of the cost is not lost in rounding. Nothing is dropped (no dropout).

Layer 0 is the input, layer L the output. Shape legend: B examples, n_l neurons of layer l; W_l (n_l, n_(l-1)).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from distbp.config import Model as ModelConfig
from distbp.explain.units import TargetUnits
from distbp.nn.activations import activation
from distbp.nn.losses import Loss
from distbp.nn.mlp import MLP, Trace, build_loss, build_mlp
from distbp.nn.model import Views
from distbp.nn.streams import Purpose, stream

Batch = tuple[NDArray, ...]
"""Inputs (B, I), (B,) classes or (B, O) targets as training takes them, then weights (B,) if examples have some."""


@dataclass(frozen=True, eq=False)
class Network:
    """A fully connected network as a value. flat: (num_parameters,) float64. sizes: neurons of layers 0 to L.

    units: of the targets, where training scaled them; the network itself then computes in scaled units.
    """

    config: ModelConfig
    is_classification: bool
    sizes: tuple[int, ...]
    flat: NDArray[np.float64]
    units: TargetUnits | None = None

    @cached_property
    def model(self) -> MLP:
        """The model that does the arithmetic."""
        return self._build(None)

    def _build(self, target_units: tuple[float, ...] | None) -> MLP:
        plain = self.config.model_copy(update={"hidden": self.sizes[1:-1], "dropout": 0.0})
        return build_mlp(plain, self.sizes[0], self.sizes[-1], self.is_classification, np.float64, target_units)

    @cached_property
    def parameters(self) -> Views:
        """Views into `flat` by name."""
        return self.model.layout.views(self.flat)

    @property
    def num_layers(self) -> int:
        """L: the layers that have weights."""
        return len(self.sizes) - 1

    def weight(self, layer: int) -> NDArray:
        """Return W (n_layer, n_(layer-1)), the weights that lead into a layer."""
        return self.parameters[f"{layer - 1}.weight"]

    def bias(self, layer: int) -> NDArray:
        """Return b (n_layer,)."""
        return self.parameters[f"{layer - 1}.bias"]

    def trace(self, x: NDArray, y: NDArray) -> Trace:
        """Return activations, deltas and losses of every example."""
        return self.model.trace(self.parameters, x, y)

    def losses(self, x: NDArray, y: NDArray) -> NDArray:
        """Return the cost of every example that training makes small, (B,)."""
        return self.model.losses(self.parameters, x, y)

    def told_losses(self, x: NDArray, y: NDArray) -> NDArray:
        """Return the cost of every example in the units of the data, (B,): as losses are told everywhere."""
        return self.losses(x, y) if self.units is None else self._telling_model.losses(self.parameters, x, y)

    def tell(self, outputs: NDArray) -> NDArray:
        """Return outputs (..., O) in the units of the data."""
        return outputs if self.units is None else self.units.tell(outputs)

    def mean_gradient(self, batches: Iterable[Batch]) -> NDArray[np.float64]:
        """Return the gradient of the average cost over all examples of all batches, (num_parameters,).

        Where examples have weights it is the sum of w_i g_i over the sum of w_i, as in training; 0 if all w_i are 0.
        """
        total, part, divisor = np.zeros_like(self.flat), np.empty_like(self.flat), 0.0
        views, no_dropout = self.model.layout.views(part), stream(0, Purpose.DROPOUT)
        for x, y, *weights in batches:
            divisor += self.model.gradient_sums(self.parameters, x, y, views, no_dropout, *weights).divisor
            total += part
        return total / (divisor or 1)

    def moved(self, change: NDArray) -> Network:
        """Return the network with `change`, (num_parameters,), added to its parameters."""
        return replace(self, flat=self.flat + change)

    def tail(self, layer: int) -> Network:
        """Return the part after `layer` as a network of its own, whose inputs are that layer's activations."""
        return replace(self, sizes=self.sizes[layer:], flat=self.flat[self._start_of(layer) :])

    def pre_activations(self, layer: int, before: NDArray) -> NDArray:
        """Return z (B, n_layer) = W a + b for activations (B, n_(layer-1))."""
        z: NDArray = before @ self.weight(layer).T + self.bias(layer)
        return z

    def activations(self, layer: int, z: NDArray) -> NDArray:
        """Return s(z); of the last layer the outputs."""
        if layer == self.num_layers:
            return self._loss.outputs(z.copy())  # which may reuse what it is given
        a = np.empty_like(z)
        activation(self.config.activation).apply(z, a)
        return a

    def slopes(self, layer: int, neuron: int, z: NDArray) -> NDArray:
        """Return da/dz (n_layer,): how the activation of one neuron changes with each z (n_layer,) of its layer.

        It changes only with its own z, by s'(z). A softmax output a_j changes with all: by a_j (1 - a_j) and -a_j a_i.
        """
        a = self.activations(layer, z[None])
        if layer == self.num_layers and self.config.loss == "cross_entropy":
            slopes: NDArray = -a[0] * a[0, neuron]
            slopes[neuron] += a[0, neuron]
            return slopes
        own = np.zeros_like(a)
        own[:, neuron] = 1
        activation(self._activation_name(layer)).chain(own, z[None], a)
        return own.ravel()

    def losses_at(self, layer: int, z: NDArray, y: NDArray) -> NDArray:
        """Return the costs, (B,), for given z of a layer, (B, n_layer)."""
        if layer == self.num_layers:
            return self._loss.losses(z, y)
        return self.tail(layer).losses(self.activations(layer, z), y)

    @cached_property
    def _telling_model(self) -> MLP:
        return self._build(None if self.units is None else self.units.squares)

    @property
    def _loss(self) -> Loss:
        return build_loss(self.config, self.is_classification)

    def _activation_name(self, layer: int) -> str:
        if layer < self.num_layers:
            return self.config.activation
        return "sigmoid" if self.is_classification else "identity"

    def _start_of(self, layer: int) -> int:
        return sum(entry.size for entry in self.model.layout.entries[: 2 * layer])
