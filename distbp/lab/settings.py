"""Lists of numbers as people type them, and the messages about wrong ones. Pure."""

from __future__ import annotations

import math

from distbp.errors import ConfigError


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Return the positive numbers in `text`, comma-separated, ascending and each once. Raises ConfigError."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or any(not math.isfinite(number) or number <= 0 for number in found):
        raise ConfigError(f"{option} {text}: expected positive numbers with commas between them, such as 0.1,0.05")
    return tuple(sorted(set(found)))


def parse_whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the same for whole numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{option} {text}: expected positive whole numbers with commas between them, such as 1,8,64")
    return tuple(sorted({int(part) for part in parts}))
