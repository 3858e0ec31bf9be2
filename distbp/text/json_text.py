"""Valid JSON for anything a run reports.

JSON has no NaN and no infinity. In logs and results they are written as the strings "NaN", "Infinity" and
"-Infinity", which Python's float() reads back; where a value must come back as it was, as {"float": "NaN"}.
NumPy numbers and arrays are written as numbers and lists, anything else unknown as its str().
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def encode_line(value: object) -> str:
    """Return `value` as JSON text on one line, with a newline at the end."""
    try:
        return _LINE_ENCODER.encode(value) + "\n"
    except ValueError:  # not finite
        return _LINE_ENCODER.encode(_name_non_finite(value)) + "\n"


def encode_document(value: Mapping[str, object]) -> bytes:
    """Return `value` as indented UTF-8 JSON for people to read."""
    return (json.dumps(_name_non_finite(value), indent=2, allow_nan=False, default=_to_plain) + "\n").encode()


def decode_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in `content`; raises ValueError for everything else."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not an object")
    return value


def seal(values: Mapping[str, Any]) -> str:
    """Return a SHA-256 over JSON values, whatever their order and spacing in a file."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_seal(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return `values` without their seal, which is in `key`; raises ValueError if it does not fit."""
    rest = {name: value for name, value in values.items() if name != key}
    if values.get(key) != seal(rest):
        raise ValueError("it was changed after it was written")
    return rest


def wrap_non_finite(value: Any) -> Any:
    """Return JSON values with each number that is not finite as {"float": name}."""
    return _name_non_finite(value, lambda name: {"float": name})


def unwrap_non_finite(value: Any) -> Any:
    """Return what wrap_non_finite was given."""
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("NaN", "Infinity", "-Infinity"):
            return float(value["float"])
        return {key: unwrap_non_finite(inner) for key, inner in value.items()}
    return [unwrap_non_finite(inner) for inner in value] if isinstance(value, list) else value


def _to_plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _name_non_finite(value: Any, wrap: Callable[[str], object] = str) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return wrap("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _name_non_finite(inner, wrap) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_name_non_finite(inner, wrap) for inner in value]
    return value


_LINE_ENCODER = json.JSONEncoder(allow_nan=False, separators=(", ", ": "), default=_to_plain)
