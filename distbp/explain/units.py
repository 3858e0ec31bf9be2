"""Targets that training scaled: from the network's units to those of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.data import Schema


@dataclass(frozen=True, eq=False)
class TargetUnits:
    """Training learns (target - mean) / deviation. mean, deviation: (O,) float64, in the units of the data."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def tell(self, outputs: NDArray) -> NDArray:
        """Return the network's outputs (..., O) in the units of the data."""
        told: NDArray = outputs * self.deviation + self.mean
        return told

    @property
    def squares(self) -> tuple[float, ...]:
        """(O,) what a squared error of 1 is in the units of the data."""
        return tuple((self.deviation**2).tolist())


def find_units(schema: Schema) -> TargetUnits | None:
    """Return the units of the targets of a run, None where training took them as they are."""
    targets = schema.targets
    return None if targets.shift is None or targets.scale is None else TargetUnits(targets.shift, 1 / targets.scale)
