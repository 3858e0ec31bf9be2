"""Curves and bars drawn in characters: braille dots, eight in a cell. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distbp.pages.words import number

Points = Sequence[tuple[float, float]]

LABEL_WIDTH = 9
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # rows from above, columns from the left
_BLOCKS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Scale:
    """From values to the unit interval. is_log: by their logarithms."""

    low: float
    high: float
    is_log: bool

    def place(self, value: float) -> float:
        """Return where a value is, 0 for `low` and 1 for `high`."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low) if high > low else 0.5


def choose_scale(values: Sequence[float]) -> Scale:
    """Return a scale for at least one value: logarithmic where they span more than a factor of 30."""
    low, high = min(values), max(values)
    return Scale(low, high, low > 0 and high > 30 * low)


def draw_curves(curves: Sequence[Points], width: int, height: int) -> list[list[tuple[str, int]]]:
    """Return `height` lines of `width` cells, each as pieces (text, number of the curve it is of; -1 for labels).

    Of two curves that meet in a cell the later one is seen. At least one curve has a point.
    """
    values = [y for points in curves for _, y in points]
    scale = choose_scale(values)
    first, last = (choose(x for points in curves for x, _ in points) for choose in (min, max))
    columns, rows = 2 * (width - LABEL_WIDTH), 4 * height
    cells: dict[tuple[int, int], tuple[int, int]] = {}
    for curve, points in enumerate(curves):
        for column, row in _trace(points, first, last, scale, columns, rows):
            place = row // 4, column // 2
            dots, owner = cells.get(place, (0, curve))
            cells[place] = (dots if owner == curve else 0) | _DOTS[row % 4][column % 2], curve
    labels = {0: number(scale.high), height - 1: number(scale.low)}
    return [_line(cells, row, columns // 2, labels.get(row, "")) for row in range(height)]


def draw_bar(share: float, width: int) -> str:
    """Return a bar of `width` cells of which `share` is filled."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_BLOCKS[rest] if rest else "")).ljust(width, "·")


def _trace(points: Points, first: float, last: float, scale: Scale, columns: int, rows: int) -> list[tuple[int, int]]:
    """Return the dots (column, row from above) of a line through the points."""
    span = last - first
    dots: list[tuple[int, int]] = []
    for x, y in points:
        column = round((x - first) / span * (columns - 1)) if span > 0 else 0
        dot = column, round((1 - scale.place(y)) * (rows - 1))
        dots += _connect(dots[-1], dot) if dots else [dot]
    return dots


def _connect(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the dots after `start` on the way to `end`."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [(x0 + round((x1 - x0) * i / count), y0 + round((y1 - y0) * i / count)) for i in range(1, count + 1)]


def _line(cells: dict[tuple[int, int], tuple[int, int]], row: int, width: int, label: str) -> list[tuple[str, int]]:
    pieces = [(f"{label:>{LABEL_WIDTH - 1}} ", -1)]
    for column in range(width):
        dots, curve = cells.get((row, column), (0, -1))
        text = chr(0x2800 + dots) if dots else " "
        if pieces[-1][1] == curve:
            pieces[-1] = pieces[-1][0] + text, curve
        else:
            pieces.append((text, curve))
    return pieces
