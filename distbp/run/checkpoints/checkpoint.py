"""A checkpoint as a value: everything that continues a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DTYPES = ("float32", "float64", "int64")
DATA_KEYS = {"data", "data_fingerprint"}
"""What the data's fingerprint is called in this version, and in 0.1.0."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `step` steps.

    tensors: arrays of any shape, float32, float64 or int64, e.g. "parameters/0.weight". They are not copied:
    leave them unchanged until the checkpoint is written. Loaded ones may be read-only.
    digest: hex SHA-256 of the parameters, given by the caller. recipe_digest: Recipe.digest.
    position: JSON values: epoch, best loss (NaN and infinities come back as they are), ...
    data: JSON values: the fingerprint of the data, under one of `DATA_KEYS`.
    schema: JSON values: the data's schema with class labels.
    module: what a PyTorch module's load_state_dict takes, written to a file of its own; None of other models, and
    of a checkpoint that was loaded.

    Raises ValueError for what a checkpoint cannot hold, so that it surfaces where it was made.
    """

    step: int
    tensors: Mapping[str, NDArray]
    digest: str
    recipe_digest: str
    position: Mapping[str, object]
    data: Mapping[str, object]
    schema: Mapping[str, object]
    module: Mapping[str, NDArray] | None = None

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step={self.step} is negative; expected the number of steps done")
        for name, tensor in self.tensors.items():
            _check_tensor(name, tensor)
        _check_json("position", self.position)
        _check_json("data", self.data)
        if not self.data.keys() <= DATA_KEYS:
            raise ValueError(f"data has the keys {sorted(self.data)}; expected at most {sorted(DATA_KEYS)}")
        _check_json("schema", self.schema)


def _check_tensor(name: str, tensor: NDArray) -> None:
    if not name or name == "__metadata__":
        raise ValueError(f"a tensor cannot be called {name!r}; choose another name")
    dtype = np.asarray(tensor).dtype
    if dtype.name not in DTYPES or not dtype.isnative:
        raise ValueError(f"tensor '{name}' is {dtype}; expected one of {', '.join(DTYPES)}")


def _check_json(name: str, values: Mapping[str, object]) -> None:
    try:
        json.dumps(dict(values))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} holds more than JSON values: {error}; expected plain numbers, text, lists and dicts"
        ) from None
