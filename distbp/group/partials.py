"""What goes before a worker's partials on a line: everything but their arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import NDArray

from distbp.protocol.messages import InnerStep, Partial, ShardResult


@dataclass(frozen=True)
class PartialsHeader:
    """A ShardResult without its arrays. places: where they lie in the sender's arena."""

    nodes: tuple[tuple[int, int, float, int, tuple[InnerStep, ...], float | None], ...]
    places: tuple[int, ...]
    compute_s: float
    data_s: float

    @classmethod
    def of(cls, result: ShardResult, place: Callable[[NDArray], int]) -> PartialsHeader:
        """Return the header of a worker's partials. place: says where in its arena a gradient lies."""
        nodes = tuple((p.start, p.stop, p.loss, p.num_examples, p.steps, p.weight) for p in result.partials)
        return cls(nodes, tuple(place(p.gradient) for p in result.partials), result.compute_s, result.data_s)

    def to_result(self, arrays: list[NDArray]) -> ShardResult:
        """Return the partials again, with their gradients in `arrays`."""
        parts = zip(self.nodes, arrays, strict=True)
        partials = tuple(
            Partial(a, b, array, loss, n, steps, weight) for (a, b, loss, n, steps, weight), array in parts
        )
        return ShardResult(partials, self.compute_s, self.data_s)
