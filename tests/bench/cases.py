"""The benchmark's cases: fully connected relu networks on random bytes, SGD with momentum 0.9, float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """sizes: neurons of each layer, inputs first. num_microbatches: what distbp cuts a batch into."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    num_microbatches: int
    num_examples: int
    num_steps: int

    def data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return x (num_examples, inputs) and y (num_examples,), the same ones each time."""
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (self.num_examples, self.sizes[0]), dtype=np.uint8)
        return x, rng.integers(0, self.sizes[-1], self.num_examples)


CASES = {
    case.name: case
    for case in (
        Case("tiny", (784, 30, 10), 64, 2, 32768, 1500),
        Case("small", (784, 128, 10), 128, 2, 32768, 750),
        Case("mid", (784, 512, 512, 10), 512, 4, 32768, 100),
        Case("large", (784, 2048, 2048, 10), 1024, 4, 16384, 16),
        Case("xl", (1024, 4096, 4096, 10), 1024, 4, 16384, 6),
    )
}
