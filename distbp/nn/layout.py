"""The flat vector: every parameter, gradient and velocity is one contiguous array with a view per layer.

Because it is one array, it is sent as one message, has one digest, and is updated in one loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from numpy.typing import NDArray


@dataclass(frozen=True)
class Entry:
    """One named tensor inside the flat vector; `decays` says whether weight decay acts on it."""

    name: str
    shape: tuple[int, ...]
    decays: bool = True

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The tensors of a model in the order in which they lie in its flat vector."""

    entries: tuple[Entry, ...]

    @cached_property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def _slices(self) -> tuple[tuple[str, int, int, tuple[int, ...]], ...]:
        return tuple((entry.name, start, stop, entry.shape) for entry, start, stop in self._placed())

    def views(self, flat: NDArray) -> dict[str, NDArray]:
        """Return a view into `flat` (num_parameters,) for every tensor, by name; nothing is copied."""
        return {name: flat[start:stop].reshape(shape) for name, start, stop, shape in self._slices}

    def decayed_ranges(self) -> tuple[tuple[int, int], ...]:
        """Return the half-open ranges of the flat vector on which weight decay acts."""
        return tuple((start, stop) for entry, start, stop in self._placed() if entry.decays)

    def _placed(self) -> Iterator[tuple[Entry, int, int]]:
        start = 0
        for entry in self.entries:
            yield entry, start, start + entry.size
            start += entry.size
