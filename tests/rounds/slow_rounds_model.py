"""Softmax regression whose gradients take a while, so that something can happen within a round."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from distbp.nn.layout import Entry, Layout
from distbp.nn.model import Sums


class SlowModel:
    """As distbp.nn.model.Model. seconds: that each gradient takes at least."""

    def __init__(self, num_inputs: int, num_outputs: int, seconds: float):
        self.layout = Layout((Entry("weight", (num_outputs, num_inputs)), Entry("bias", (num_outputs,), decays=False)))
        self._seconds = seconds

    def init(self, parameters, rng):
        parameters["weight"][...] = rng.standard_normal(parameters["weight"].shape) * 0.1
        parameters["bias"][...] = 0

    def gradient_sums(self, parameters, x, y, gradient, rng):  # noqa: ARG002 - nothing is drawn
        time.sleep(self._seconds)
        p = self.predict(parameters, x)
        delta = p - np.eye(p.shape[1], dtype=p.dtype)[y]
        gradient["weight"][...] = delta.T @ x
        gradient["bias"][...] = delta.sum(axis=0)
        return Sums(float(-np.log(p[np.arange(len(y)), y]).sum()), len(y))

    def loss_sums(self, parameters, x, y):
        p = self.predict(parameters, x)
        return Sums(float(-np.log(p[np.arange(len(y)), y]).sum()), len(y), int((p.argmax(axis=1) == y).sum()))

    def predict(self, parameters, x):
        z = x @ parameters["weight"].T + parameters["bias"]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


def build(num_inputs: int, num_outputs: int, seconds: float) -> SlowModel:
    return SlowModel(num_inputs, num_outputs, seconds)


class UnequalModel(SlowModel):
    """Slow in the process that first makes `file`, fast in all others."""

    def __init__(self, num_inputs: int, num_outputs: int, file: str):
        super().__init__(num_inputs, num_outputs, 0.005)
        self._file = Path(file)
        self._has_asked = False

    def gradient_sums(self, parameters, x, y, gradient, rng):
        if not self._has_asked and "ray::" in Path("/proc/self/cmdline").read_text():
            self._has_asked = True
            with suppress(FileExistsError):
                self._file.touch(exist_ok=False)
                self._seconds = 0.04
        return super().gradient_sums(parameters, x, y, gradient, rng)


def build_unequal(num_inputs: int, num_outputs: int, file: str) -> UnequalModel:
    return UnequalModel(num_inputs, num_outputs, file)
