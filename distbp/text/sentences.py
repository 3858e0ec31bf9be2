"""Parts of sentences that many messages need."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def first_line(said: BaseException | str) -> str:
    """Return the first line of what an exception says, its name if it says nothing."""
    return (str(said).strip().splitlines() or [type(said).__name__])[0]


def find_near(value: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return which of the `known` words `value` was perhaps meant to be; None if none is like it."""
    near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def suggest(value: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean 'x'?", or "" where none of the `known` words is like `value`; x as Python writes it."""
    near = find_near(value, known, cutoff)
    return f"; did you mean {near!r}?" if near else ""
