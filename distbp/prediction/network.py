"""A trained network by itself: what it learned and how inputs become numbers, without the run it comes from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data import Schema
from distbp.nn.blas import compute_exactly, fixed_arithmetic
from distbp.nn.build import ModelSpec
from distbp.nn.model import Model
from distbp.protocol.examples import Examples
from distbp.protocol.supply import EVALUATION_CHUNK, Batch, Supply, open_held_out


class Network:
    """Parameters with the schema of the data that they were trained on; it pickles, and any thread may use it.

    schema: columns, classes, scaling. spec: what builds the model. flat: all parameters, (num_parameters,).
    """

    def __init__(self, schema: Schema, spec: ModelSpec, flat: NDArray):
        self.schema = schema
        self.spec = spec
        self.flat = flat
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _local=threading.local())

    @property
    def model(self) -> Model:
        """The model of the calling thread, which is the only one that may use it."""
        if not hasattr(self._local, "model"):
            self._local.model = self.spec.build()
        model: Model = self._local.model
        return model

    def precise(self) -> Network:
        """Return the same network in float64, in which rounding does not show which other examples are predicted.

        A PyTorch module stays in the number format that it was trained in.
        """
        if self.spec.config.torch is not None or self.spec.dtype == "float64":
            return self
        if not hasattr(self._local, "precise"):
            spec = replace(self.spec, dtype="float64")
            self._local.precise = Network(self.schema, spec, self.flat.astype(np.float64))
        found: Network = self._local.precise
        return found

    @property
    def parameters(self) -> dict[str, NDArray]:
        """The parameters by name, "0.weight" (O, I), "0.bias" (O,), ...: views of `flat`."""
        return self.model.layout.views(self.flat)

    @fixed_arithmetic()
    def outputs(self, examples: Examples) -> NDArray:
        """Return (n, O): a probability for each class, or a value for each target; (n, T, K) for sequences."""
        found = list(self._outputs(examples))
        return np.concatenate(found) if found else np.empty((0, self.schema.num_outputs), self.spec.dtype)

    def _outputs(self, examples: Examples) -> Iterator[NDArray]:
        predict = partial(self.model.predict, self.parameters)
        for x, *_ in self.chunks(examples):
            with self.spec.pinned():
                found = compute_exactly(partial(predict, x))
            yield found

    def in_units(self, outputs: NDArray) -> NDArray:
        """Return a regression's outputs (n, O) in the units of the targets."""
        targets = self.schema.targets
        if targets.shift is None or targets.scale is None:
            return outputs
        return outputs.astype(np.float64) / targets.scale + targets.shift

    def chunks(self, examples: Examples | Supply) -> Iterator[Batch]:
        """Yield the examples' inputs (B, I), targets, and weights if any, in pieces of the size of evaluations."""
        opened = open_held_out(examples, self.spec.dtype)
        chunks = range(-(-len(examples) // EVALUATION_CHUNK))
        try:
            opened.begin(chunks)
            yield from map(opened.take, chunks)
        finally:
            opened.close()
