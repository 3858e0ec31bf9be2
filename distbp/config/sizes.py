"""Amounts of memory as people write them: 512MB, 2GB."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([kKMGT]?B)")


def parse_size(text: str) -> int:
    """Return the bytes that a text such as 512MB or 1.5 GB stands for. Raises ValueError for any other text."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no amount of memory; write it as 512MB or 2GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _check(text: str) -> str:
    parse_size(text)
    return text


Size = Annotated[str, AfterValidator(_check)]
"""A text that `parse_size` reads."""
