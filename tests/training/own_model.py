"""A user's own model in plain NumPy: softmax regression, as `model.function: own_model:build` names it."""

from __future__ import annotations

import numpy as np

from distbp.nn.layout import Entry, Layout
from distbp.nn.model import Sums


class SoftmaxRegression:
    """p = softmax(x W + b), with W (I, O) and b (O,); C = -log p_y."""

    def __init__(self, num_inputs: int, num_outputs: int, spread: float):
        self.layout = Layout((Entry("W", (num_inputs, num_outputs)), Entry("b", (num_outputs,), decays=False)))
        self.spread = spread

    def init(self, parameters, rng):
        parameters["W"][...] = self.spread * rng.standard_normal(parameters["W"].shape)
        parameters["b"][...] = 0

    def predict(self, parameters, x):
        z = x @ parameters["W"] + parameters["b"]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def gradient_sums(self, parameters, x, y, gradient, rng):  # noqa: ARG002 - rng is for models with dropout
        p = self.predict(parameters, x)
        examples = np.arange(len(x))
        loss = -np.log(p[examples, y]).sum()
        p[examples, y] -= 1  # dC/dz
        gradient["W"][...] = x.T @ p
        gradient["b"][...] = p.sum(axis=0)
        return Sums(float(loss), len(x))

    def loss_sums(self, parameters, x, y):
        p = self.predict(parameters, x)
        loss = -np.log(p[np.arange(len(x)), y]).sum()
        return Sums(float(loss), len(x), int((p.argmax(axis=1) == y).sum()))


def build(num_inputs: int, num_outputs: int, spread: float = 0.01) -> SoftmaxRegression:
    return SoftmaxRegression(num_inputs, num_outputs, spread)


class BrokenModel(SoftmaxRegression):
    """Works on the zeros that a model is tried out with, and on nothing else."""

    def gradient_sums(self, parameters, x, y, gradient, rng):
        if x.any():
            raise ZeroDivisionError("division by zero in the user's model")
        return super().gradient_sums(parameters, x, y, gradient, rng)


def build_broken(num_inputs: int, num_outputs: int) -> BrokenModel:
    return BrokenModel(num_inputs, num_outputs, 0.01)
