"""The flat vector: every parameter, gradient and velocity is one contiguous array with a view per layer.

Because it is one array, it is sent as one message, has one digest, and is updated in one loop.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Entry:
    """One named tensor inside the flat vector; `decays` says whether weight decay acts on it.

    kind: a parameter is trained, a frozen one stays as it is. A buffer, such as the running mean of a batch
    normalisation, is changed by forward passes: in place of a gradient it has the sum of its changes, and a step adds
    their mean. dtype: that it has outside the flat vector, such as int64 for a count; None: the flat vector's.
    """

    name: str
    shape: tuple[int, ...]
    decays: bool = True
    kind: Literal["parameter", "frozen", "buffer"] = "parameter"
    dtype: str | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The tensors of a model in the order in which they lie in its flat vector.

    aliases: further names of tensors, such as tied weights have, with the name under which each stands in entries.
    """

    entries: tuple[Entry, ...]
    aliases: tuple[tuple[str, str], ...] = ()

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

    def state_dict(self, flat: NDArray) -> dict[str, NDArray]:
        """Return every tensor under each of its names, in the dtype that it has outside the flat vector."""
        views = self.views(flat)
        found = {entry.name: _convert(views[entry.name], entry.dtype) for entry in self.entries}
        return {**found, **{alias: found[name] for alias, name in self.aliases}}

    def decays(self, weight_decay: float, by_name: Mapping[str, float]) -> tuple[tuple[int, int, float], ...]:
        """Return (start, stop, weight decay) of the ranges of the flat vector on which weight decay acts.

        by_name: decay by pattern of the tensor's name (`*` is any text); the first that fits counts, also for tensors
        that do not decay by themselves. Frozen tensors and buffers never decay.
        """
        placed = ((start, stop, _decay_of(entry, weight_decay, by_name)) for entry, start, stop in self._placed())
        return tuple((start, stop, rate) for start, stop, rate in placed if rate > 0)

    def is_finite(self, flat: NDArray) -> bool:
        """Return whether every value is finite, but for buffers, which may well be infinite."""
        return all(np.isfinite(flat[i:j]).all() for entry, i, j in self._placed() if entry.kind != "buffer")

    def buffer_ranges(self) -> tuple[tuple[int, int], ...]:
        """Return the half-open ranges of the flat vector that hold buffers."""
        return tuple((start, stop) for entry, start, stop in self._placed() if entry.kind == "buffer")

    def _placed(self) -> Iterator[tuple[Entry, int, int]]:
        start = 0
        for entry in self.entries:
            yield entry, start, start + entry.size
            start += entry.size


def _convert(values: NDArray, dtype: str | None) -> NDArray:
    if dtype is None or values.dtype == dtype:
        return values
    return (values if np.dtype(dtype).kind == "f" else np.rint(values)).astype(dtype)


def _decay_of(entry: Entry, weight_decay: float, by_name: Mapping[str, float]) -> float:
    if entry.kind != "parameter":
        return 0.0
    found = (rate for pattern, rate in by_name.items() if fnmatch.fnmatchcase(entry.name, pattern))
    return next(found, weight_decay if entry.decays else 0.0)
