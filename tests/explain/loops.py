"""The network written once more as plain loops over neurons, from what a checkpoint holds: the oracle of these tests.

Only the forward direction: every derivative is a central finite difference of it.
"""

from __future__ import annotations

import math

import numpy as np

STEP = 1e-5

SQUASH = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "gelu": lambda z: 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "identity": lambda z: z,
}


def copy_parameters(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: tensor.astype(np.float64) for name, tensor in parameters.items()}


def layer_z(parameters, layer: int, before) -> list[float]:
    weight, bias = parameters[f"{layer - 1}.weight"], parameters[f"{layer - 1}.bias"]
    return [sum(weight[j, k] * a for k, a in enumerate(before)) + bias[j] for j in range(len(bias))]


def activate_outputs(z: list[float], model, is_classification: bool) -> list[float]:
    if model.loss == "cross_entropy":
        total = sum(math.exp(value) for value in z)
        return [math.exp(value) / total for value in z]
    return [SQUASH["sigmoid"](value) if is_classification else value for value in z]


def run_from(parameters, layer: int, a, model, is_classification: bool) -> tuple[list, list]:
    """Return the activations and the z of the layers after `layer`, whose activations are `a`."""
    num_layers = len(parameters) // 2
    activations, zs = [], []
    for number in range(layer + 1, num_layers + 1):
        z = layer_z(parameters, number, a)
        is_last = number == num_layers
        a = activate_outputs(z, model, is_classification) if is_last else [SQUASH[model.activation](v) for v in z]
        activations.append(a)
        zs.append(z)
    return activations, zs


def cost_of(outputs, wanted, model) -> float:
    if model.loss == "cross_entropy":
        return -math.log(sum(a for a, y in zip(outputs, wanted, strict=True) if y == 1))
    return sum((a - y) ** 2 for a, y in zip(outputs, wanted, strict=True))


def slope(function, point: np.ndarray) -> np.ndarray:
    """Return central finite differences: how function() follows each value of `point`, changed in place."""
    found = np.empty(point.shape)
    for place in np.ndindex(point.shape):
        kept = point[place]
        point[place] = kept + STEP
        above = function()
        point[place] = kept - STEP
        found[place] = (above - function()) / (2 * STEP)
        point[place] = kept
    return found
