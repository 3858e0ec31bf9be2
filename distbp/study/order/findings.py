"""What differs between runs that differ in one thing only. Pure.

Distances are |w - w_0| / |w_0 - start|, w_0 the reference run's parameters: 1 is as far apart as training has moved.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.study.order.trial import OrderResult
from distbp.study.order.windows import WindowFinding

KINDS = ("order", "initialisation", "one flipped bit")


@dataclass(frozen=True)
class KindFinding:
    """Runs that differ in `kind` only, all with the same batch size.

    distances: from the reference run, (runs, kept steps). disagreement: mean part of the validation examples that two
    runs predict differently. errors: at the end of each run, the reference's first.
    """

    kind: str
    distances: tuple[tuple[float, ...], ...]
    disagreement: float
    errors: tuple[float, ...]
    num_digests: int

    @property
    def mean_distances(self) -> list[float]:
        """Geometric mean over the runs at each kept step; 0 where any of them is 0."""
        columns = zip(*self.distances, strict=True)
        return [statistics.geometric_mean(c) if min(c) > 0 else 0.0 for c in columns]

    @property
    def spread(self) -> float:
        """Standard deviation of the errors."""
        return statistics.stdev(self.errors)


@dataclass(frozen=True)
class OrderFindings:
    """Everything the order study found; full: the same with all examples in every batch.

    windows: of data in blocks that are sorted by class, beside the full shuffle.
    """

    source: str
    network: str
    num_parameters: int
    num_examples: int
    num_validation: int
    batch_size: int
    epochs: int
    steps: tuple[int, ...]
    full_steps: tuple[int, ...]
    mini: tuple[KindFinding, ...]
    full: tuple[KindFinding, ...]
    full_digests: tuple[str, ...]
    processor: str
    windows: tuple[WindowFinding, ...] = ()

    @property
    def is_order_free(self) -> bool:
        """Whether all full-batch runs of different orders ended with the same bytes."""
        return len(set(self.full_digests)) == 1

    @property
    def sampling_error(self) -> float:
        """How much an error measured on so few validation examples varies by itself: sqrt(p (1 - p) / N)."""
        error = statistics.fmean(self.mini[0].errors)
        return float(np.sqrt(error * (1 - error) / self.num_validation))

    @property
    def does_order_matter(self) -> bool:
        """Whether orders spread the final error by more than the validation examples alone would."""
        return self.mini[0].spread > self.sampling_error


def compare(kind: str, reference: OrderResult, others: Sequence[OrderResult]) -> KindFinding:
    """Return how `others` differ from `reference`, and all of them from each other."""
    everyone = [reference, *others]
    base = reference.vectors()
    pairs = itertools.combinations([result.classes() for result in everyone], 2)
    return KindFinding(
        kind=kind,
        distances=tuple(tuple(relative_distances(base, other.vectors())) for other in others),
        disagreement=statistics.fmean(float(np.mean(a != b)) for a, b in pairs),
        errors=tuple(result.error for result in everyone),
        num_digests=len({result.digest for result in everyone}),
    )


def relative_distances(reference: Sequence[NDArray], other: Sequence[NDArray]) -> list[float]:
    """Return the distance at each kept step, relative to how far the reference has moved by its end."""
    moved = float(np.linalg.norm(reference[-1] - reference[0]))
    return [float(np.linalg.norm(b - a)) / moved for a, b in zip(reference, other, strict=True)]
