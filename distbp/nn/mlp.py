"""The fully connected network: forward, backprop, and gradient sums written straight into the flat vector.

Shape legend: B examples, I inputs and O outputs of a layer; W (O, I), b (O,), activations a (B, O).
W[j, k] leads from neuron k of the layer before to neuron j. A layer's tensors are "0.weight", "0.bias", ...
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.config import Model as ModelConfig
from distbp.nn.activations import activation
from distbp.nn.initializers import initialize
from distbp.nn.layout import Entry, Layout
from distbp.nn.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from distbp.nn.model import Sums, Views


class Trace(NamedTuple):
    """What one forward and backward pass computes for each of B examples, layer by layer.

    inputs: (B, I) of every layer: x and the hidden activations. outputs: (B, O) of the network.
    deltas: dC/dz (B, O) of every layer, C the example's own loss. losses: (B,).
    """

    inputs: list[NDArray]
    outputs: NDArray
    deltas: list[NDArray]
    losses: NDArray

    def squared_norms(self) -> NDArray:
        """Return |g_i|^2 of every example's own gradient, (B,) float64, without forming it.

        A layer's dC/dW is the outer product delta a^T, whose squared norm is |delta|^2 |a|^2 (Goodfellow 2015,
        "Efficient per-example gradient computations"); the bias adds |delta|^2, so
        |g_i|^2 = sum_l |delta_l|^2 (1 + |a_(l-1)|^2).
        """
        squares = np.zeros(len(self.losses))
        for a, delta in zip(self.inputs, self.deltas, strict=True):
            squares += np.einsum("bo,bo->b", delta, delta) * (1 + np.einsum("bi,bi->b", a, a))
        return squares


class MLP:
    """A multilayer perceptron with one activation for its hidden layers.

    Not for use by two threads at once: it keeps scratch arrays for each batch size it has met.
    """

    def __init__(self, sizes: tuple[int, ...], config: ModelConfig, loss: Loss, dtype: DTypeLike):
        self.sizes = sizes
        self.layout = Layout(
            tuple(
                entry
                for layer, (num_inputs, num_outputs) in enumerate(itertools.pairwise(sizes))
                for entry in (
                    Entry(f"{layer}.weight", (num_outputs, num_inputs)),
                    Entry(f"{layer}.bias", (num_outputs,), decays=False),
                )
            )
        )
        self._config = config
        self._loss = loss
        self._activation = activation(config.activation)
        self._dtype = np.dtype(dtype)
        self._num_layers = len(sizes) - 1
        self._names = [(f"{layer}.weight", f"{layer}.bias") for layer in range(self._num_layers)]
        self._scratch: dict[int, list[_LayerScratch]] = {}

    def init(self, parameters: Views, rng: np.random.Generator) -> None:
        """Draw every layer's weights and biases, first layer first."""
        for weight, bias in self._names:
            initialize(self._config.init, parameters[weight], parameters[bias], rng)

    def gradient_sums(
        self,
        parameters: Views,
        x: NDArray,
        y: NDArray,
        gradient: Views,
        rng: np.random.Generator,
        weights: NDArray | None = None,
    ) -> Sums:
        """Backprop: dC/dW and dC/db summed over the examples, by the chain rule from the last layer to the first.

        delta_L = dC/dz_L, times the example's weight where there are some;  dC/dW_l = delta_l^T a_(l-1);
        dC/db_l = sum_B delta_l;  delta_(l-1) = (delta_l W_l) * s'(z_(l-1)).
        """
        masks = self.dropout_masks(len(x), rng)
        a = self._forward(parameters, x, masks)
        losses, last = self._loss.losses_and_delta(self._layers(len(x))[-1].z, y)
        if weights is not None:
            last *= weights.astype(last.dtype)[:, None]
        for layer, delta in self._go_back(parameters, last, masks):
            weight, bias = self._names[layer]
            np.matmul(delta.T, a[layer], out=gradient[weight])
            np.add.reduce(delta, axis=0, out=gradient[bias])
        return add_up(losses, None, weights)

    def trace(self, parameters: Views, x: NDArray, y: NDArray) -> Trace:
        """Return what backprop computes for each example, in new arrays; without dropout."""
        inputs = [a.copy() for a in self._forward(parameters, x, None)]
        z = self._layers(len(x))[-1].z
        outputs = self._loss.outputs(z.copy())
        losses, last = self._loss.losses_and_delta(z, y)
        deltas = [delta.copy() for _, delta in self._go_back(parameters, last, None)]
        return Trace(inputs, outputs, deltas[::-1], losses)

    def loss_sums(self, parameters: Views, x: NDArray, y: NDArray, weights: NDArray | None = None) -> Sums:
        """Return the sums; an example is correct where the largest output is that of its class."""
        z = self._outputs_before_activation(parameters, x)
        is_correct = z.argmax(axis=1) == y if y.ndim == 1 else None
        return add_up(self._loss.losses(z, y), is_correct, weights)

    def losses(self, parameters: Views, x: NDArray, y: NDArray) -> NDArray:
        """Return the loss of every example, (B,), with nothing dropped."""
        return self._loss.losses(self._outputs_before_activation(parameters, x), y)

    def predict(self, parameters: Views, x: NDArray) -> NDArray:
        """Return the outputs (B, O): softmax probabilities, sigmoid outputs, or values."""
        return self._loss.outputs(self._outputs_before_activation(parameters, x).copy())

    def _outputs_before_activation(self, parameters: Views, x: NDArray) -> NDArray:
        self._forward(parameters, x, None)
        return self._layers(len(x))[-1].z

    def _forward(self, parameters: Views, x: NDArray, masks: list[NDArray] | None) -> list[NDArray]:
        """Return the input of every layer, [x, a_1, ..., a_(L-1)]; the last z stays in the scratch."""
        inputs = [x]
        for layer, scratch in enumerate(self._layers(len(x))):
            weight, bias = self._names[layer]
            z = np.matmul(inputs[-1], parameters[weight].T, out=scratch.z)
            z += parameters[bias]
            if layer == self._num_layers - 1:
                break
            self._activation.apply(z, scratch.a)
            inputs.append(scratch.a if masks is None else np.multiply(scratch.a, masks[layer], out=scratch.dropped))
        return inputs

    def _go_back(self, parameters: Views, delta: NDArray, masks: list[NDArray] | None) -> Iterator[tuple[int, NDArray]]:
        """Yield every layer with its delta, from the last, whose delta is given, to the first."""
        for layer in reversed(range(self._num_layers)):
            yield layer, delta
            if layer > 0:
                delta = self._pass_back(parameters[self._names[layer][0]], delta, layer - 1, masks)

    def _pass_back(self, weight: NDArray, delta: NDArray, layer: int, masks: list[NDArray] | None) -> NDArray:
        """Return delta of hidden layer `layer`: what the neurons after it wish for, added up, times s'(z)."""
        scratch = self._layers(len(delta))[layer]
        before = np.matmul(delta, weight, out=scratch.delta)
        if masks is not None:
            before *= masks[layer]
        self._activation.chain(before, scratch.z, scratch.a)
        return before

    def dropout_masks(self, num_examples: int, rng: np.random.Generator) -> list[NDArray] | None:
        """Return 0 or 1 / (1 - p) for every hidden activation ("inverted" dropout), None without dropout."""
        p = self._config.dropout
        if p == 0:
            return None
        keep = np.asarray(1 / (1 - p), self._dtype)
        return [(rng.random((num_examples, size)) >= p) * keep for size in self.sizes[1:-1]]

    def _layers(self, num_examples: int) -> list[_LayerScratch]:
        layers = self._scratch.get(num_examples)
        if layers is None:
            layers = self._scratch[num_examples] = [
                _LayerScratch(num_examples, size, self._dtype, self._activation.needs_z, self._config.dropout > 0)
                for size in self.sizes[1:]
            ]
        return layers


def add_up(losses: NDArray, is_correct: NDArray | None, weights: NDArray | None) -> Sums:
    """Return the sums over examples. losses, weights: (B,). is_correct: (B,), None where nothing can be."""
    if weights is None:
        correct = 0 if is_correct is None else int(np.count_nonzero(is_correct))
        return Sums(float(np.add.reduce(losses, dtype=np.float64)), len(losses), correct)
    right = 0.0 if is_correct is None else float(np.add.reduce(weights * is_correct))
    loss, weight = float(np.add.reduce(weights * losses)), float(np.add.reduce(weights))
    return Sums(loss, len(losses), right, weight=weight)


class _LayerScratch:
    """Arrays (B, O) that one layer needs again and again: allocating them each time costs page faults."""

    def __init__(self, num_examples: int, size: int, dtype: np.dtype, keeps_z: bool, drops: bool):
        shape = (num_examples, size)
        self.z = np.empty(shape, dtype, order="F")
        self.a = np.empty(shape, dtype, order="F") if keeps_z else self.z
        self.dropped = np.empty(shape, dtype, order="F") if drops else self.a
        self.delta = np.empty(shape, dtype, order="F")


def build_mlp(
    config: ModelConfig,
    num_inputs: int,
    num_outputs: int,
    is_classification: bool,
    dtype: DTypeLike,
    target_units: tuple[float, ...] | None = None,
) -> MLP:
    """Return the network of `config`; with squared error its outputs are sigmoids for classes, values otherwise."""
    loss = build_loss(config, is_classification, target_units)
    return MLP((num_inputs, *config.hidden, num_outputs), config, loss, dtype)


def build_loss(config: ModelConfig, is_classification: bool, target_units: tuple[float, ...] | None = None) -> Loss:
    """Return the loss of `config` with the activation of the outputs that belongs to it."""
    if config.loss == "cross_entropy" or (config.loss is None and is_classification):
        return CrossEntropy()
    if config.loss == "binary_cross_entropy":
        return BinaryCrossEntropy()
    return SquaredError(activation("sigmoid" if is_classification else "identity"), target_units)
