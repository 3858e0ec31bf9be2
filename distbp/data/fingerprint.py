"""Which data a run is trained and judged on: a hash of every value, wherever the files lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from distbp.data.prepare import PreparedData
from distbp.protocol.examples import Examples

_KEY = "data"
_KEY_OF_0_1_0 = "data_fingerprint"


@dataclass(frozen=True)
class DataFingerprint:
    """SHA-256 of all inputs and targets of each part, in order, and of the class labels; None without validation."""

    training: str
    validation: str | None

    def to_json(self) -> dict[str, Any]:
        """Return what goes into a checkpoint or a study's identity."""
        return {_KEY: asdict(self)}


def fingerprint(data: PreparedData) -> DataFingerprint:
    """Return the fingerprint of prepared data; it reads every value once."""
    labels = json.dumps(data.schema.classes).encode()
    validation = None if data.validation is None else _seal(data.validation.fingerprint(), labels)
    return DataFingerprint(_seal(data.train.fingerprint(), labels), validation)


def may_be_the_same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether two checkpoints' fingerprints name the same data; those of different versions may."""
    return all(a[key] == b[key] for key in (_KEY, _KEY_OF_0_1_0) if key in a and key in b)


def _seal(examples: str, labels: bytes) -> str:
    return hashlib.sha256(examples.encode() + labels).hexdigest()


def find_changed_part(stored: Mapping[str, Any], data: PreparedData, now: DataFingerprint) -> str | None:
    """Return which part, training or validation, is not what it was when `stored` was written; None if both are.

    stored: holds what `to_json` gave, or what version 0.1.0 wrote, which saw a sample of the training part only.
    now: of `data`.
    """
    if _KEY in stored:
        then = stored[_KEY] if isinstance(stored[_KEY], Mapping) else {}
        parts = asdict(now)
        return next((part for part in parts if then.get(part) != parts[part]), None)
    is_same = isinstance(data.train, Examples) and stored.get(_KEY_OF_0_1_0) == data.train.fingerprint_of_0_1_0()
    return None if is_same else "training"
