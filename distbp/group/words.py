"""Small messages between nodes as text: numbers, texts, and a few kinds of values. To read one runs no code. Pure."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from distbp.group.partials import PartialsHeader
from distbp.protocol.messages import InnerStep, StepReport

MAX_BYTES = 1 << 26
"""A longer message is none of ours: the largest name the microbatches of a worker in one step."""

_KINDS = {kind.__name__: kind for kind in (InnerStep, PartialsHeader, StepReport)}
_KIND = "kind"
_NUMPY = "numpy"
_SCALARS = {kind.__name__: kind for kind in (np.bool_, np.float32, np.float64, np.int32, np.int64)}
"""What a model of the user's own may count in: sums of a narrower kind round otherwise, so they stay of that kind."""


def encode(message: Any) -> bytes:
    """Return a message as bytes; every float keeps its bits. Raises TypeError for what no member says."""
    return json.dumps(message, separators=(",", ":"), default=_to_plain).encode()


def decode(data: bytes) -> Any:
    """Return the message again, with tuples for lists. Raises OSError if it is none."""
    try:
        return _from_plain(json.loads(data))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OSError(f"a message that cannot be read: {error}") from None


def _to_plain(value: Any) -> dict[str, Any]:
    name = type(value).__name__
    if _SCALARS.get(name) is type(value):
        return {_KIND: _NUMPY, "of": name, "value": value.item()}
    if not is_dataclass(value) or _KINDS.get(name) is not type(value):
        raise TypeError(f"a member says no {name}")
    return {_KIND: name, **{field.name: getattr(value, field.name) for field in fields(value)}}


def _from_plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_from_plain, value))
    if isinstance(value, dict):
        found = {name: _from_plain(part) for name, part in value.items()}
        kind = found.pop(_KIND)
        return _SCALARS[found["of"]](found["value"]) if kind == _NUMPY else _KINDS[kind](**found)
    return value
