"""The benchmark's cases: relu networks and PyTorch modules on random data, SGD with momentum 0.9, float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """sizes: neurons of each layer, inputs first. num_microbatches: what distbp cuts a batch into.

    module: a builder in bench_modules, of whose inputs and outputs sizes has the numbers. num_places: the length of
    sequences of tokens; 0 for images.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    num_microbatches: int
    num_examples: int
    num_steps: int
    module: str | None = None
    num_places: int = 0

    def data(self) -> tuple[NDArray, NDArray[np.int64]]:
        """Return x (num_examples, inputs) and y, (num_examples,) or (num_examples, places), the same ones each time."""
        rng = np.random.default_rng(0)
        if self.num_places:
            tokens = rng.integers(0, self.sizes[-1], (self.num_examples, self.num_places + 1))
            return tokens[:, :-1], tokens[:, 1:]
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
        Case("cnn", (784, 10), 256, 4, 8192, 16, "cnn"),
        Case("transformer", (64, 1000), 64, 4, 2048, 16, "transformer", 64),
    )
}
