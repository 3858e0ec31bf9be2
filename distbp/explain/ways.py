"""Three ways to raise a neuron's activation: its bias, its weights, the activations before it.

A lever is one bias, weight or activation that can be moved. z_j = sum_k w_jk a_k + b_j, so that dz_j/db_j = 1,
dz_j/dw_jk = a_k and dz_j/da_k = w_jk. These slopes rank the levers.

The effect of each way is predicted from the derivatives, and then measured: a small step is made, and the activation
and the cost are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.explain.example import ExampleView

STEP = 0.01
"""How far every lever is moved: small against weights and activations, large against rounding."""

Kind = Literal["bias", "weights", "activations"]


@dataclass(frozen=True, eq=False)
class Effect:
    """What steps do to the neuron's activation and to the example's trained cost; arrays (K,), one for each step."""

    activation_predicted: NDArray
    activation_measured: NDArray
    cost_predicted: NDArray
    cost_measured: NDArray


@dataclass(frozen=True, eq=False)
class Way:
    """One of the three ways; K levers, 1 for the bias, else those ranked highest.

    levers: (K,) the neurons of the layer before, whose weight or activation is the lever; [0] for the bias.
    values: (K,) of the levers now. slopes: (K,) dz/dlever. Levers are ranked by |slope|, strongest first.
    single: each lever moved alone by STEP, in the direction that raises z.
    together: all n levers of this way moved at once along their slopes by a step of length STEP (K = 1).
    slope_length: the length of all n slopes: what a step of length 1 along them adds to z.
    """

    kind: Kind
    levers: NDArray[np.int64]
    values: NDArray
    slopes: NDArray
    slope_length: float
    single: Effect
    together: Effect


@dataclass(frozen=True, eq=False)
class NeuronView:
    """One neuron of layer 1 .. L for one example: where it stands, where it should go, and three ways to raise it.

    nudge: -dC/da, of an output with cross-entropy -dC/dz. delta: dC/dz. slope: s'(z).
    """

    layer: int
    neuron: int
    z: float
    activation: float
    slope: float
    delta: float
    nudge: float
    ways: tuple[Way, Way, Way]


def view_neuron(example: ExampleView, y: NDArray, layer: int, neuron: int, limit: int | None = None) -> NeuronView:
    """Return the three ways to raise a neuron. y: the example's, (1,) or (1, O). limit: levers of a way to try out."""
    network, before = example.network, example.activations[layer - 1]
    slopes = network.slopes(layer, neuron, example.z[layer])
    weights, biases = network.weight(layer)[neuron], network.bias(layer)[neuron : neuron + 1]
    moves = (
        _plan_move("bias", biases, np.ones(1), limit),
        _plan_move("weights", weights, before, limit),
        _plan_move("activations", before, weights, limit),
    )
    bias, weight, activation = _Trial(example, y, layer, neuron, slopes).carry_out(moves)
    return NeuronView(
        layer=layer,
        neuron=neuron,
        z=float(example.z[layer][neuron]),
        activation=float(example.activations[layer][neuron]),
        slope=float(slopes[neuron]),
        delta=float(example.deltas[layer][neuron]),
        nudge=float(example.nudges[layer][neuron]),
        ways=(bias, weight, activation),
    )


@dataclass(frozen=True, eq=False)
class _Move:
    """Steps (K + 1, n) of the n levers of one way: each of the K strongest alone, then all along their slopes."""

    kind: Kind
    levers: NDArray[np.int64]
    values: NDArray
    slopes: NDArray
    slope_length: float
    steps: NDArray


def _plan_move(kind: Kind, values: NDArray, slopes: NDArray, limit: int | None) -> _Move:
    levers = np.argsort(-np.abs(slopes), kind="stable")[:limit]
    length = float(np.linalg.norm(slopes))
    steps = np.zeros((len(levers) + 1, len(slopes)))
    steps[np.arange(len(levers)), levers] = np.where(slopes[levers] < 0, -STEP, STEP)
    steps[-1] = slopes * (STEP / length if length > 0 else 0.0)
    return _Move(kind, levers, values[levers], slopes[levers], length, steps)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Moves levers of one neuron and computes what follows, forward through the network."""

    example: ExampleView
    y: NDArray
    layer: int
    neuron: int
    slopes: NDArray  # da/dz of the neuron, (n_layer,)

    def carry_out(self, moves: Sequence[_Move]) -> list[Way]:
        """Return the way of each move; all steps pass through the network together."""
        z = np.concatenate([self._z_after(move) for move in moves])
        activations = self.example.network.activations(self.layer, z)[:, self.neuron]
        costs = self.example.network.losses_at(self.layer, z, np.repeat(self.y, len(z), axis=0))
        activations -= self.example.activations[self.layer][self.neuron]
        costs -= self.example.trained_cost
        ends = np.cumsum([len(move.steps) for move in moves])[:-1]
        measured = zip(moves, np.split(activations, ends), np.split(costs, ends), strict=True)
        return [self._conclude(move, activation, cost) for move, activation, cost in measured]

    def _conclude(self, move: _Move, activation_measured: NDArray, cost_measured: NDArray) -> Way:
        activation_gradient, cost_gradient = self._gradients(move.kind)
        columns = (move.steps @ activation_gradient, activation_measured, move.steps @ cost_gradient, cost_measured)
        single, together = (Effect(*(column[rows] for column in columns)) for rows in (slice(-1), slice(-1, None)))
        return Way(move.kind, move.levers, move.values, move.slopes, move.slope_length, single, together)

    def _z_after(self, move: _Move) -> NDArray:
        """Return the layer's z (K + 1, n_layer) with the levers moved."""
        network, before = self.example.network, self.example.activations[self.layer - 1]
        if move.kind == "activations":
            return network.pre_activations(self.layer, before + move.steps)
        z = np.repeat(self.example.z[self.layer][None], len(move.steps), axis=0)
        weights, bias = network.weight(self.layer)[self.neuron], network.bias(self.layer)[self.neuron]
        if move.kind == "bias":
            z[:, self.neuron] = weights @ before + (bias + move.steps[:, 0])
        else:
            z[:, self.neuron] = (weights + move.steps) @ before + bias
        return z

    def _gradients(self, kind: Kind) -> tuple[NDArray, NDArray]:
        """Return da_j/dlever and dC/dlever, (n,); what lies before reaches both through every neuron of the layer."""
        network, layer, neuron = self.example.network, self.layer, self.neuron
        if kind == "activations":
            return self.slopes @ network.weight(layer), -self.example.nudges[layer - 1]
        z_gradient = np.ones(1) if kind == "bias" else self.example.activations[layer - 1]
        return self.slopes[neuron] * z_gradient, self.example.deltas[layer][neuron] * z_gradient
