"""A curve that never grows beyond what a screen can show: means over stretches of equal length. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MAX_STRETCHES = 400


@dataclass(frozen=True)
class Stretch:
    """The values of some consecutive steps. index: its place; total: the sum of `count` values."""

    index: int
    total: float
    count: int

    @property
    def mean(self) -> float:
        """The mean value."""
        return self.total / self.count


@dataclass(frozen=True)
class Curve:
    """Values by step, as means over stretches of `width` steps; the width doubles when there are too many."""

    width: int = 1
    stretches: tuple[Stretch, ...] = ()

    def extended(self, points: Iterable[tuple[int, float]]) -> Curve:
        """Return the curve with further points (step, value), in the order they were written.

        A step at or before an earlier one says that the run went back there: what is after it is dropped.
        Values that are not finite are left out.
        """
        width, found = self.width, list(self.stretches)
        for step, value in points:
            if math.isfinite(value):
                _add(found, Stretch((step - 1) // width, value, 1))
            if len(found) > MAX_STRETCHES:
                width, found = 2 * width, _halve(found)
        return Curve(width, tuple(found))

    @property
    def points(self) -> list[tuple[float, float]]:
        """The middle step and the mean of every stretch, ascending."""
        return [(s.index * self.width + (self.width + 1) / 2, s.mean) for s in self.stretches]

    def thinned(self, limit: int) -> Curve:
        """Return the curve in wider stretches, at most `limit` of them."""
        curve = self
        while len(curve.stretches) > limit:
            curve = Curve(2 * curve.width, tuple(_halve(list(curve.stretches))))
        return curve


def _add(found: list[Stretch], new: Stretch) -> None:
    while found and found[-1].index > new.index:
        found.pop()
    if found and found[-1].index == new.index:
        new = Stretch(new.index, found[-1].total + new.total, found[-1].count + 1)
        found.pop()
    found.append(new)


def _halve(found: list[Stretch]) -> list[Stretch]:
    halved: list[Stretch] = []
    for stretch in found:
        index = stretch.index // 2
        if halved and halved[-1].index == index:
            last = halved.pop()
            stretch = Stretch(index, last.total + stretch.total, last.count + stretch.count)
        halved.append(Stretch(index, stretch.total, stretch.count))
    return halved
