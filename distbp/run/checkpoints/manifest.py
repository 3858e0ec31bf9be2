"""manifest.json of a checkpoint: what its state file must be, where the run stood, and a seal over itself.

Every format up to this version's is read: keys that are not known are ignored. Format 1, of distbp 0.1.0, has another
recipe_digest (`Recipe.digest_of_0_1_0`) and a fingerprint of a sample of the training data instead of all data.
In the file, the data's fingerprint is one of the values of `position`, as it was in format 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from distbp.errors import CheckpointError
from distbp.installation import FORMAT, VERSION, describe_newer
from distbp.run.checkpoints.checkpoint import DATA_KEYS, Checkpoint
from distbp.text.json_text import check_seal, decode_object, seal, unwrap_non_finite, wrap_non_finite

SEAL = "manifest_sha256"


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is torn, changed or incomplete; an older one may still be whole."""


@dataclass(frozen=True)
class StateFile:
    """The file with the tensors, and how to know that it is whole."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All of a checkpoint but its tensors; best: whether it was the best of its run when it was saved.

    module: the file for PyTorch's load_state_dict, if the run has one.
    """

    step: int
    digest: str
    recipe_digest: str
    position: Mapping[str, Any]
    data: Mapping[str, Any]
    schema: Mapping[str, Any]
    best: bool
    state: StateFile
    created: str
    distbp_version: str
    format_version: int = FORMAT
    module: StateFile | None = None


_KINDS: dict[type, dict[str, type]] = {
    Manifest: {"step": int, "digest": str, "recipe_digest": str, "position": dict, "schema": dict, "best": bool},
    StateFile: {"name": str, "num_bytes": int, "sha256": str},
}


def make_manifest(checkpoint: Checkpoint, state: StateFile, best: bool, module: StateFile | None = None) -> Manifest:
    """Return the manifest of a checkpoint whose tensors are in `state`, and for PyTorch in `module`."""
    return Manifest(
        step=checkpoint.step,
        digest=checkpoint.digest,
        recipe_digest=checkpoint.recipe_digest,
        position=dict(checkpoint.position),
        data=dict(checkpoint.data),
        schema=dict(checkpoint.schema),
        best=best,
        state=state,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        distbp_version=VERSION,
        module=module,
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the content of manifest.json, a line a key, sealed with a SHA-256 over all else in it."""
    files = {name: vars(file) for name, file in _files_of(manifest).items()}
    stored = {**vars(manifest), "position": {**manifest.position, **manifest.data}, **files}
    del stored["data"]
    if manifest.module is None:
        del stored["module"]  # a run of the built-in network is written as it always was
    values = json.loads(_to_json(stored))  # as a reader will see them
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in {**values, SEAL: seal(values)}.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _files_of(manifest: Manifest) -> dict[str, StateFile]:
    files = {"state": manifest.state, "module": manifest.module}
    return {name: file for name, file in files.items() if file is not None}


def _to_json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, allow_nan=False)
    except ValueError:  # a number is not finite
        return json.dumps(wrap_non_finite(values), allow_nan=False)


def decode_manifest(content: bytes) -> Manifest:
    """Return the manifest in `content`.

    Raises DamagedCheckpointError if its seal does not fit, CheckpointError if a newer distbp wrote it.
    """
    try:
        values = check_seal(decode_object(content), SEAL)
        _check_version(values)
        return _read_values(unwrap_non_finite(values))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(f"manifest.json is damaged: {error}") from None


def _check_version(values: Mapping[str, Any]) -> None:
    written_by = {"distbp": values.get("distbp_version"), "format": values["format_version"]}
    if sentence := describe_newer(f"the checkpoint of step {values.get('step')}", written_by):
        raise CheckpointError(sentence)


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _part_position(stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a stored position without the data's fingerprint, and that alone."""
    position = {name: value for name, value in stored.items() if name not in DATA_KEYS}
    return position, {name: value for name, value in stored.items() if name in DATA_KEYS}


def _read_values(values: Mapping[str, Any]) -> Manifest:
    """Return the manifest of sealed values; raises TypeError for values that no distbp writes."""
    position, data = _part_position(values["position"])
    files = {name: StateFile(**_known(StateFile, values[name])) for name in ("state", "module") if name in values}
    manifest = Manifest(**{**_known(Manifest, values), "position": position, "data": data, **files})
    for part in (manifest, *files.values()):
        for name, kind in _KINDS[type(part)].items():
            if not isinstance(getattr(part, name), kind):
                raise TypeError(f"{name} is a {type(getattr(part, name)).__name__}, not a {kind.__name__}")
    elsewhere = [file.name for file in files.values() if "/" in file.name]
    if elsewhere:
        raise ValueError(f"its state is in another folder, '{elsewhere[0]:.40}'")
    return manifest
