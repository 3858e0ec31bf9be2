"""Text that users chose (labels, names, paths, logs) as it may be shown: nothing in it acts on who reads it."""

from __future__ import annotations

import unicodedata

_ACTIVE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters (escape sequences begin with one), halves of characters, line ends."""
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Marks that turn the direction of the text around them, or cannot be seen."""


def printable(value: object, keep: str = "") -> str:
    """Return text on one line, in which control characters are written as \\x1b or \\n. keep: those that may stay."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or _is_harmless(character) else _escape(character) for character in text
    )


def _is_harmless(character: str) -> bool:
    return unicodedata.category(character) not in _ACTIVE and character not in _DIRECTIONS


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
