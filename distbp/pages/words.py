"""Numbers as people read them. Pure."""

from __future__ import annotations

import math


def number(value: float | None) -> str:
    """Return 12,345 or 43 for values from 10 on, and three digits, such as 3.14 or 0.0271, for smaller ones."""
    if value is None or not math.isfinite(value):
        return "-"
    if isinstance(value, int) or value == 0 or abs(value) >= 9.995:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}"


def count(value: int, noun: str) -> str:
    """Return 1 worker or 1,200 workers."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Return 12 µs, 3.4 ms, 1.25 s, 12.1 min or 3.1 h."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds == 0:
        return "0"
    for size, unit in ((7200, 3600), (120, 60)):
        if seconds >= size:
            return f"{seconds / unit:.3g} {'h' if unit == 3600 else 'min'}"
    for factor, unit_name in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 0.9995:
            return f"{seconds * factor:.3g} {unit_name}"
    return f"{seconds * 1e6:.3g} µs"


def percent(part: float | None) -> str:
    """Return 3.1 % for 0.031."""
    return "-" if part is None or not math.isfinite(part) else f"{100 * part:.3g} %"


def times(factor: float | None) -> str:
    """Return 5.7 or 120: two digits, because a ratio of measured seconds is not more precise."""
    if factor is None or not math.isfinite(factor):
        return "-"
    return f"{float(f'{factor:.2g}'):,g}"
