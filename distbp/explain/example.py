"""One example on its way through the network and back: what it asks of every neuron and every weight.

The lesson's identities, each for one example with cost C (3Blue1Brown, "What is backpropagation really doing?"):

    wish of neuron j for neuron k before it    -dC/dz_j w_jk
    nudge of neuron k: all those wishes added  -dC/da_k = sum_j -dC/dz_j w_jk
    nudge of a weight                          -dC/dw_jk = -dC/dz_j a_k, an outer product

A nudge is minus a derivative: the direction in which the example wants something to go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.explain.network import Network


@dataclass(frozen=True, eq=False)
class ExampleView:
    """What one example does to the network, float64; tuples have one array (n_l,) for each layer l = 0 .. L.

    index: of the example in its part of the data. row: of the same in its source.
    inputs: as stored, of the data's input shape. label, predicted: None in regression.
    weight: what it counts in an average; what it asks for is told without it.
    wanted: (O,) outputs, in the units of the data. cost: in these units too, as losses are told everywhere.
    trained_cost: C itself, of which the rest are derivatives. If training scaled the targets, it is in scaled units, as
    are all activations, z, deltas and nudges; else it is `cost`. activations: layer 0 is the scaled input.
    z: activations before the activation function; those of layer 0 are the input.
    deltas: dC/dz; of layer 0 dC/dx.
    nudges: -dC/da. Softmax outputs move only together, so with cross-entropy those of layer L are -dC/dz: wanted - a.
    """

    index: int
    row: int
    inputs: NDArray
    label: str | int | bool | None
    predicted: str | int | bool | None
    weight: float
    wanted: NDArray
    cost: float
    trained_cost: float
    activations: tuple[NDArray, ...]
    z: tuple[NDArray, ...]
    deltas: tuple[NDArray, ...]
    nudges: tuple[NDArray, ...]
    network: Network

    @property
    def outputs(self) -> NDArray:
        """What the network says, (O,), in the units of the data."""
        return self.network.tell(self.activations[-1])

    def wishes(self, layer: int) -> NDArray:
        """Return (n_layer, n_(layer-1)): the wish of each neuron j of `layer` for each k before it.

        The sum over j is `nudges[layer - 1]`.
        """
        wishes: NDArray = -self.deltas[layer][:, None] * self.network.weight(layer)
        return wishes

    def weight_nudges(self, layer: int) -> NDArray:
        """Return -dC/dW (n_layer, n_(layer-1)), the outer product of minus the deltas and the activations before."""
        return np.outer(-self.deltas[layer], self.activations[layer - 1])

    def bias_nudges(self, layer: int) -> NDArray:
        """Return -dC/db (n_layer,)."""
        return -self.deltas[layer]

    def strongest_weights(self, layer: int, limit: int) -> list[tuple[int, int]]:
        """Return the (j, k) of the `limit` weights of a layer with the largest nudges, strongest first."""
        nudges = np.abs(self.weight_nudges(layer))
        order = np.argsort(-nudges, axis=None, kind="stable")[:limit]
        return [divmod(int(place), nudges.shape[1]) for place in order]


def trace_example(
    network: Network, x: NDArray, y: NDArray
) -> tuple[tuple[NDArray, ...], tuple[NDArray, ...], tuple[NDArray, ...], float]:
    """Return activations, z and deltas of all layers, and C, for one example x (1, I), y (1,) or (1, O)."""
    trace = network.trace(x, y)
    activations = (*trace.inputs, trace.outputs)
    z = [x, *(network.pre_activations(layer + 1, before) for layer, before in enumerate(trace.inputs))]
    deltas = [trace.deltas[0] @ network.weight(1), *trace.deltas]
    return tuple(a[0] for a in activations), tuple(a[0] for a in z), tuple(d[0] for d in deltas), float(trace.losses[0])


def nudge_layers(network: Network, deltas: tuple[NDArray, ...], off: NDArray) -> tuple[NDArray, ...]:
    """Return -dC/da of all layers. off: (O,) outputs minus wanted outputs."""
    backward = [-deltas[layer + 1] @ network.weight(layer + 1) for layer in range(network.num_layers)]
    factor = 1 if network.config.loss == "cross_entropy" else 2
    return (*backward, -factor * off)


def want(y: NDArray, num_outputs: int) -> NDArray:
    """Return the wanted outputs (O,) for one example's y (1,) class or (1, O) targets."""
    if y.ndim > 1:
        return np.array(y[0], np.float64)
    wanted = np.zeros(num_outputs)
    wanted[y[0]] = 1
    return wanted
