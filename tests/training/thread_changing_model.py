"""A model of one's own that sets how many threads BLAS uses, now and then, as careless code does."""

from __future__ import annotations

from typing import Any

import threadpoolctl

from distbp.config import Model as ModelConfig
from distbp.nn import blas
from distbp.nn.losses import CrossEntropy
from distbp.nn.mlp import MLP


class Careless(MLP):
    """The built-in network; every so often a gradient sets three threads on its way."""

    every = 0
    num_calls = 0

    def gradient_sums(self, *arguments: Any) -> Any:
        self.num_calls += 1
        if self.every and self.num_calls % self.every == 0:
            for library in threadpoolctl.ThreadpoolController().lib_controllers:
                if library.user_api == "blas":
                    blas.find_thread_functions(library)[1](3)
        return super().gradient_sums(*arguments)


def build(num_inputs: int, num_outputs: int, every: int = 0) -> Careless:
    model = Careless((num_inputs, 600, 300, num_outputs), ModelConfig(), CrossEntropy(), "float32")
    model.every = every
    return model
